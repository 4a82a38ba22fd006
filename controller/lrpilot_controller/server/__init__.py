"""The gRPC side of the daemon: sessions of trainers, requests of operators."""

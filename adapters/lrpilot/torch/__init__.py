"""LRPilot for PyTorch loops."""

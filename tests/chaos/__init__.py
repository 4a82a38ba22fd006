"""Real trainers and a real daemon, and everything that can go wrong between them, for a while."""

"""Policies: what LRPilot would do about a signal. One per file, behind the port in `base`."""

"""Version 1 of the wire contract: package `lrpilot.v1`."""

"""A demonstration that needs nothing but this package: `python -m lrpilot.demo`."""

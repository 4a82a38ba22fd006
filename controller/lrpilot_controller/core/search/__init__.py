"""The LR search: small parts that yield probes, composed in `search`."""

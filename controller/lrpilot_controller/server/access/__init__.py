"""Who may come in: tokens, the gate that asks for them, and the certificates of TLS."""

"""Who may be trusted with what: sampling and standing."""

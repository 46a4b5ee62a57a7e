"""How much of the service a user may still use."""

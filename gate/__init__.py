"""The gate: every check between a connection and the service."""

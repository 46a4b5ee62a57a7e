"""A page from this server alone that tries the service in a browser."""

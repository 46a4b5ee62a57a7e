"""Vectors of a running service, over HTTP."""

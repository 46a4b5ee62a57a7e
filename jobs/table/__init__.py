"""Columns of vectors that are always filled: what is set up in a database, and the worker."""

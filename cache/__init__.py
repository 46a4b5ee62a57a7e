"""Vectors of texts that were embedded before, in memory and in Redis."""

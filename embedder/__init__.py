"""Texts to vectors. Knows nothing of HTTP, users or the environment."""

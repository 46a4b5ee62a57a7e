"""Vectors to files and tables."""

"""Counts what each caller uses, and refuses what exceeds its limits."""

"""Wire formats: one per file."""

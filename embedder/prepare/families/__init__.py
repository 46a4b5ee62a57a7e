"""One file per model family: what the native engine reads of it."""

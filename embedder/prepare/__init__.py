"""From a sentence-transformers directory to a prepared model. Imported only at build time."""

"""From a sentence-transformers directory to a prepared model. Build time only, never imported at run time."""

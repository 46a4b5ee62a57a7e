"""Programs for developers: serving, tokens, documents, bundles, bills of materials."""

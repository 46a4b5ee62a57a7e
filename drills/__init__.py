"""Everything that can fail is made to fail: real processes under load, every answer checked."""

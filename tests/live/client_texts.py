"""What the tests of clients embed."""

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = ["one", "두 번째"]
MANY = TEXTS * 150  # their answer comes in pieces

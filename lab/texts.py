"""Texts with a given number of tokens."""

from embedder.prepare.sentences import SENTENCES
from embedder.tokens import Tokenizer


def text_of(n_tokens: int, tokenizer: Tokenizer) -> str:
    """Words of several languages with at most `n_tokens` tokens, including special tokens."""
    words = " ".join([*SENTENCES] * (1 + n_tokens // 400)).split()
    low = 1
    high = len(words)
    while low < high:
        middle = (low + high + 1) // 2
        n = tokenizer.encode([" ".join(words[:middle])], max_tokens=1_000_000)[0].n_tokens
        low, high = (middle, high) if n <= n_tokens else (low, middle - 1)
    return " ".join(words[:low])

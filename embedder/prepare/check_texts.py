"""Texts of the quality check: prose in 12 languages, code in 8, records, short and long texts."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle, zip_longest
from pathlib import Path
from typing import NamedTuple

DIRECTORY = Path(__file__).parent / "texts"  # one file per kind, texts between blank lines
LANGUAGES = (
    "arabic", "chinese", "english", "french", "german", "hindi", "japanese", "korean",
    "portuguese", "russian", "spanish", "vietnamese",
)  # fmt: skip
CODE = ("cpp", "go", "java", "javascript", "python", "rust", "shell", "sql")
RECORDS = ("chat", "email", "logs", "mixed", "numbers", "short", "tables")
# Tokens, and the kinds whose texts are joined in turns.
LONG: Sequence[tuple[int, Sequence[str]]] = (
    (512, ("english",)),
    (512, ("korean", "japanese", "chinese")),
    (512, ("german", "french", "spanish")),
    (512, CODE),
    (512, ("logs", "tables", "email")),
    (512, LANGUAGES),
    (2048, ("english", "portuguese", "numbers")),
    (2048, (*LANGUAGES, "chat")),
    (2048, CODE),
)
REPEATED = (
    "a" * 10, "a" * 300, "ab" * 120, "ha " * 80, "0" * 200, "가" * 64, "。" * 60, "!" * 150,
    "-" * 80, "🙂" * 30, "\n" * 40 + "end", " " * 100 + "x", "the " * 120, "1 2 3 " * 50,
)  # fmt: skip


class CheckText(NamedTuple):
    """A text of the check, and the name of its prompt; empty without one."""

    kind: str
    text: str
    prompt_name: str = ""


def check_texts(n_tokens: Callable[[str], int]) -> list[CheckText]:
    """All texts without a prompt, the same in every call.

    Args:
        n_tokens: tokens of a text, for the long ones.
    """
    short = [CheckText(kind, text) for kind in (*LANGUAGES, *CODE, *RECORDS) for text in read(kind)]
    repeated = [CheckText("repeated", text) for text in REPEATED]
    long = [CheckText(f"{least} tokens", _joined(least, kinds, n_tokens)) for least, kinds in LONG]
    return [*short, *repeated, *long]


def prompted_texts(prompt_names: Sequence[str]) -> list[CheckText]:
    """A few texts with each prompt."""
    texts = [read(kind)[0] for kind in ("english", "korean", "python", "chat")]
    return [CheckText(f"prompt {name}", text, name) for name in prompt_names for text in texts]


def read(kind: str) -> list[str]:
    """The texts of one file."""
    return (DIRECTORY / f"{kind}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n\n")


def _joined(least: int, kinds: Sequence[str], n_tokens: Callable[[str], int]) -> str:
    """Texts of some kinds in turns, until they have about `least` tokens or more."""
    parts, total, special = [], 0, n_tokens("")
    for text in cycle(_in_turns([read(kind) for kind in kinds])):
        if total >= least:
            break
        parts.append(text)
        total += max(n_tokens(text) - special, 1)
    return "\n\n".join(parts)


def _in_turns(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    return (text for text in chain(*zip_longest(*lists)) if text is not None)

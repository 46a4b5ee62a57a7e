"""What the documents print: fenced blocks, and the shape of the answers below them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    path
    for path in (
        *sorted(ROOT.glob("README*.md")),
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if "```" in path.read_text(encoding="utf-8")
]
CHANGING = {
    "cached_tokens",
    "fingerprint",
    "limit",
    "remaining",
    "reset_after",
}  # values that depend on the server
_FENCE = re.compile(r"(?ms)(?:^<!-- ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$")


@dataclass(frozen=True)
class Block:
    """One fenced block; `remark` is the comment on the line before it, which readers do not see."""

    language: str
    text: str
    remark: str | None


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(language, body, remark or None) for remark, language, body in _FENCE.findall(text)
    ]


def printed_commands(document: Path, first_words: str) -> str:
    """The one block of a document that starts with these words."""
    [found] = [block.text for block in blocks(document) if block.text.startswith(first_words)]
    return found


def printed_json(text: str) -> Any:
    """A printed answer; a list that ends in `...` ends in that string here."""
    return json.loads(re.sub(r"([\[,]\s*)\.\.\.(?=\])", r'\1"..."', text))


def assert_shape(printed: Any, actual: Any, name: str = "answer") -> None:
    """The same keys in the same order, the same types, and the same values to the eye."""
    if isinstance(printed, dict):
        assert isinstance(actual, dict), name
        assert list(printed) == list(actual), name
        for key, value in printed.items():
            assert_shape(value, actual[key], key)
    elif isinstance(printed, list):
        assert isinstance(actual, list), name
        shown = printed[:-1] if printed[-1:] == ["..."] else printed
        assert len(actual) > len(shown) if shown is not printed else len(actual) == len(shown), name
        for value, other in zip(shown, actual, strict=False):
            assert_shape(value, other, name)
    else:
        assert type(printed) is type(actual), name
        assert name in CHANGING or _looks_like(printed, actual), (name, printed, actual)


def _looks_like(printed: Any, actual: Any) -> bool:
    if isinstance(printed, float):
        return abs(printed - float(actual)) < 0.01
    return bool(printed == actual)

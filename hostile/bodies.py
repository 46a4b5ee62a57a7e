"""The worst bodies of each kind, as bytes. The largest follow the default of MAX_BODY_BYTES."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from embedder.prepare.sentences import SENTENCES
from settings import Settings

MB = 1_000_000
LARGEST = int(Settings.model_fields["max_body_bytes"].default) - 256  # less room for other fields
MAX_TEXTS = int(Settings.model_fields["max_texts_per_request"].default)

DOTS = "."  # every character is a token
SPACES = " "  # no character is a token
EMOJI = "😀"
COMBINING = "e\u0301\u0323\u0308\u0316"  # normalisation reorders them
HANGUL = "각"  # decomposes into three characters
WORD = "a"  # one endless word
WORDS = "word "
ESCAPE = "\\u0041"
PAIR = "\\ud83d\\ude00"  # 12 bytes for one character


def text_of(piece: str, size: int = MB) -> str:
    """`piece` repeated to `size` bytes of UTF-8."""
    return piece * (size // len(piece.encode()))


@cache
def of_text(piece: str, size: int = MB, field: str = "text", **fields: Any) -> bytes:
    """A body with one long text."""
    return _json({field: text_of(piece, min(size, LARGEST)), **fields})


@cache
def of_texts(
    piece: str, *, n: int, size: int = LARGEST, field: str = "texts", **fields: Any
) -> bytes:
    """A body of `size` bytes with `n` equal texts."""
    each = max(len(piece.encode()), min(size, LARGEST) // n - 3)
    return _json({field: [text_of(piece, each)] * n, **fields})


@cache
def of_passages(n: int, characters: int, field: str = "texts", **fields: Any) -> bytes:
    """A body with `n` different texts of some characters each, like a corpus."""
    words = " ".join(filter(str.isascii, SENTENCES)) * (2 + characters // 100)
    texts = [words[start % 97 :][:characters] for start in range(n)]
    return _json({field: texts, **fields})


@cache
def of_items(item: str, field: str, **fields: Any) -> bytes:
    """The largest body in which `field` is a list of one JSON value repeated."""
    return _around(field, "[" + ",".join([item] * (LARGEST // (len(item) + 1) - 32)) + "]", fields)


@cache
def of_keys(**fields: Any) -> bytes:
    """The largest body of unknown members."""
    return _json({**fields, **{f"{number:x}": 1 for number in range(LARGEST // 11)}})


@cache
def of_one_key(**fields: Any) -> bytes:
    """The largest body that repeats one member."""
    members = ",".join(['"text":"x"'] * (LARGEST // 11 - 32))
    return _around("text", '"x"', fields)[:-1] + b"," + members.encode() + b"}"


@cache
def of_depth(field: str, **fields: Any) -> bytes:
    """The largest body of nested lists."""
    depth = LARGEST // 2 - 128
    return _around(field, "[" * depth + "]" * depth, fields)


@cache
def of_digits(field: str, n: int = LARGEST - 128, **fields: Any) -> bytes:
    """A body with one integer of `n` digits."""
    return _around(field, "9" * n, fields)


@cache
def of_escapes(escape: str, field: str = "text", size: int = MB) -> bytes:
    """A body whose text is `size` bytes of escapes."""
    return _around(field, '"' + escape * (min(size, LARGEST) // len(escape) - 32) + '"', {})


@cache
def of_titles(n: int, characters: int) -> bytes:
    """A small body whose only title is put before each of `n` texts."""
    return _json({"texts": ["x"] * n, "title": "t" * characters, "task": "document"})


@cache
def of_parts(n: int, n_parts: int, model: str) -> bytes:
    """A body of Cohere's with `n` inputs of some parts each."""
    parts = [{"type": "text", "text": "x"}] * n_parts
    return _json({"model": model, "inputs": [{"content": parts}] * n})


@cache
def numbers(n: int) -> bytes:
    """A body with `n` different short texts."""
    return _json({"texts": list(map(str, range(n)))})


@cache
def in_all_types(n: int, model: str) -> bytes:
    """A body of Cohere's with `n` different short texts, whose vectors it wants in all types."""
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    return _json({"model": model, "texts": list(map(str, range(n))), "embedding_types": types})


@cache
def no_json() -> bytes:
    return b"x" * LARGEST


@cache
def sentences(n: int, field: str = "texts") -> bytes:
    """A body of an ordinary caller."""
    return _json({field: [SENTENCES[i % len(SENTENCES)] for i in range(n)]})


def _around(field: str, value: str, fields: dict[str, Any]) -> bytes:
    """A body in which the JSON of `field` is `value`."""
    head = json.dumps({**fields, field: None}, ensure_ascii=False)
    return head.removesuffix("null}").encode() + value.encode() + b"}"


def _json(body: dict[str, Any] | Sequence[Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

"""The request bodies that take longest to parse, one of each kind."""

from collections.abc import Iterable

SIZE = 8 * 1024 * 1024  # bytes, the default of MAX_BODY_BYTES
TEXTS = 2048


def texts(item: bytes, size: int = SIZE, count: int = TEXTS) -> bytes:
    """A body of `count` texts that repeat `item`."""
    each = item * ((size // count - 4) // len(item))
    return b'{"texts":[' + b",".join([b'"%b"' % each] * count) + b"]}"


def titles(values: Iterable[bytes]) -> bytes:
    """A body with one text and `values` as its titles."""
    return b'{"texts":["a"],"title":[' + b",".join(values) + b"]}"


def worst_bodies(size: int = SIZE) -> dict[str, bytes]:
    """Bodies for /batch-embed by name, each of about `size` bytes."""
    strings = {
        "ASCII": b"a",
        "Korean": "한".encode(),
        "Latin": "é".encode(),
        "emoji": "😀".encode(),
        "ASCII and emoji in turns": "a😀".encode(),
        "escaped Korean": rb"\ud55c",
        "escaped emoji": rb"\ud83d\ude00",
        "line breaks": rb"\n",
        "letters and line breaks": "é\\n".encode(),
        "backslashes": rb"\\",
        "quotes": rb"\"",
        "white space": b" ",
        "zero-width spaces": "\u200b".encode(),
    }
    bodies = {f"{count} x {name}": texts(item, size, count) for name, item in strings.items()
              for count in (1, TEXTS)}  # fmt: skip
    wide = b"a" * (size // TEXTS - 8) + "😀".encode()  # four bytes per character in memory
    distinct = (b'"%d":1' % number for number in range(size // 10))
    return bodies | {
        "2048 x ASCII with one emoji": texts(wide, size),
        "titles that are numbers": titles([b"1"] * (size // 2)),
        "titles that are null": titles([b"null"] * (size // 5)),
        "titles that are lists": titles([b"[]"] * (size // 3)),
        "as many titles as are parsed": titles([b'"%b"' % (b"a" * (size // 9000 - 3))] * 9000),
        "long integers": titles([b"9" * 4300] * (size // 4301)),
        "long floats": titles([b"0." + b"7" * (size // 9000 - 3)] * 9000),
        "one integer": b'{"texts":["a"],"dimensions":' + b"9" * size + b"}",
        "one float": b'{"texts":["a"],"dimensions":0.' + b"9" * size + b"}",
        "many texts": b'{"texts":[' + b",".join([b'"a"'] * (size // 4)) + b"]}",
        "many unknown fields": b"{" + b",".join(distinct) + b"}",
        "one field many times": b"{" + b",".join([b'"texts":["a"]'] * (size // 14)) + b"}",
        "one long name": b'{"' + b"k" * size + b'":1}',
        "a body of commas": b"," * size,
        "a body of quotes": b'"' * size,
        "a body of brackets": b"[" * size,
        "white space between values": b'{"texts":["a"' + b" " * size + b"]}",
        "no end": b'{"texts":["' + b"a" * size,
        "half a surrogate pair at the end": b'{"texts":["' + b"a" * size + rb'\ud800"]}',
        "Latin-1 at the end": b'{"texts":["' + b"a" * size + b'\xe9"]}',
    }


def for_openai(body: bytes) -> bytes:
    """The same body for /v1/embeddings."""
    return body.replace(b'{"texts"', b'{"model":"m","input"', 1)

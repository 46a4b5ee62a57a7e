"""The number of values in a JSON text, counted before it is parsed."""

from collections.abc import Iterator

SLICE = 65_536  # bytes; counting one takes less than a millisecond


class TooManyValuesError(ValueError):
    """A JSON text has more values than the limit."""


def may_have_more(text: bytes, *, limit: int) -> bool:
    """Whether `text` has to be counted: not if it has few commas and brackets, strings included.

    Takes 1 ms for 8 MiB, where counting takes 40.
    """
    return sum(map(text.count, (b",", b"[", b"{"))) > limit


def count_values(text: bytes, *, limit: int) -> Iterator[int]:
    """The number of values so far, after each slice of `text`, without keys.

    Each value but the outermost, which is not counted, follows a comma or an opening bracket. So
    these are counted outside strings. In a text that is not JSON the count is right up to where a
    parser stops.

    Raises:
        TooManyValuesError: there are more than `limit`.
    """
    values = quotes = 0
    for piece in _slices(text):
        bare = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        inside = quotes % 2
        quotes += bare.count(b'"')
        if quotes > 4 * limit + 4:  # two for a key, two for its value: splitting stays cheap
            raise TooManyValuesError
        outside = b"".join(bare.split(b'"')[inside::2])
        values += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        if values > limit:
            raise TooManyValuesError
        yield values


def _slices(text: bytes) -> Iterator[bytes]:
    """Slices whose borders are not inside an escape sequence."""
    start = 0
    while start < len(text):
        piece = text[start : start + SLICE]
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2:
            piece = text[start : start + SLICE + 1]
        yield piece
        start += len(piece)

"""How many values a JSON text has, known before anything is built from it."""

from collections.abc import Iterator

SLICE = 65_536  # bytes; counting one takes less than a millisecond


class TooManyValuesError(ValueError):
    """A JSON text with more values than were asked for."""


def may_have_more(text: bytes, *, limit: int) -> bool:
    """Whether `text` has to be counted: not where there are few commas and brackets, in strings or not.

    Takes 1 ms for 8 MiB, where counting takes 40.
    """
    return sum(map(text.count, (b",", b"[", b"{"))) > limit


def count_values(text: bytes, *, limit: int) -> Iterator[int]:
    """The number of values so far, after each slice of `text`. Keys are not counted, nor the outermost value.

    Each value but the outermost follows a comma or an opening bracket, so these are counted outside
    strings. Of a text that is not JSON, the count is right up to where a parser stops.

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
    """Slices that no escape sequence crosses."""
    start = 0
    while start < len(text):
        piece = text[start : start + SLICE]
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2:
            piece = text[start : start + SLICE + 1]
        yield piece
        start += len(piece)

"""What a service key looks like: `embk_`, 43 characters of chance, 6 of checksum.

The prefix is for secret scanners. The checksum tells a mistyped key from a wrong one without a
look-up, as in GitHub's tokens.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib

PREFIX = "embk_"
SUPABASE_PREFIX = "sb_secret_"  # a project's own secret keys

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BITS = 256
_RANDOM_LENGTH = 43  # digits of base 62: 62**43 > 2**256
_CHECKSUM_LENGTH = 6  # 62**6 > 2**32
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}", re.ASCII)


def new_key() -> str:
    """A key that nobody has."""
    body = PREFIX + _base62(secrets.randbits(_RANDOM_BITS), _RANDOM_LENGTH)
    return body + _checksum(body)


def is_service_key(token: str) -> bool:
    """Whether a token has the form of a service key: ours, or a project's own secret key."""
    return token.startswith((PREFIX, SUPABASE_PREFIX))


def is_intact(key: str) -> bool:
    """Whether a key that begins with PREFIX is whole, and its checksum is right."""
    body = key[:-_CHECKSUM_LENGTH]
    return _FORM.fullmatch(key) is not None and key == body + _checksum(body)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))

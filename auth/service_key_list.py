"""The list of service keys: `NAME:SHA256`, with options behind it, for each key.

indexer:9f86d081...0a08
importer:60303ae2...f9f8:requests=600:tokens=none:priority=bulk
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from auth.principal import SERVICE, Principal
from auth.service_key_format import is_service_key
from errors import ConfigurationError

MAX_KEYS = 100  # a key is compared with all of them, which takes 15 us
MAX_LIMIT = 10**12
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FORM = "NAME:SHA256, or NAME:SHA256:requests=600:tokens=none:priority=bulk"


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """Requests in any 60 seconds and tokens per UTC day; None for no limit."""

    requests: int | None
    tokens: int | None


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """One key, known by the SHA-256 of all of it. Keys of one name are one caller."""

    name: str
    digest: bytes
    limits: CallerLimits
    bulk: bool = False

    @property
    def principal(self) -> Principal:
        """Who calls with this key."""
        caller = SERVICE + self.name
        return Principal(user_id=caller, caller=caller, bulk=self.bulk)


def parse_list(entries: Iterable[str], *, source: str, users: CallerLimits) -> list[ServiceKey]:
    """The keys of a list.

    Args:
        entries: one per key. Blank ones and comments (`#`) are skipped.
        source: the setting that is wrong where an entry is.
        users: the limits of users, which hold for a key whose entry states none.

    Raises:
        ConfigurationError: names the entry by its number, and repeats nothing of it.
    """
    keys = []
    for number, entry in enumerate(entries, start=1):
        entry = entry.partition("#")[0].strip()
        if entry:
            try:
                keys.append(_parse(entry, users))
            except ValueError as error:
                raise ConfigurationError(f"{source}: entry {number} {error}") from None
    return keys


def check_list(keys: Iterable[ServiceKey], *, source: str) -> tuple[ServiceKey, ...]:
    """The keys, each once, if they can all be used together.

    Raises:
        ConfigurationError: there are too many, one key has two names, or two keys of one name have
            different options.
    """
    by_digest: dict[bytes, ServiceKey] = {}
    by_name: dict[str, ServiceKey] = {}
    for key in keys:
        same = by_digest.setdefault(key.digest, key)
        if same.name != key.name:
            raise ConfigurationError(f"{source}: {same.name} and {key.name} are the same key.")
        other = by_name.setdefault(key.name, key)
        if replace(other, digest=key.digest) != key:
            raise ConfigurationError(
                f"{source}: two keys named {key.name} have different options. Give both the same."
            )
    if len(by_digest) > MAX_KEYS:
        raise ConfigurationError(f"{source}: there are more than {MAX_KEYS} keys. Remove some.")
    return tuple(by_digest.values())


def _parse(entry: str, users: CallerLimits) -> ServiceKey:
    """Raises ValueError with what is wrong with the entry."""
    name, _, rest = entry.partition(":")
    sha256, *options = rest.split(":")
    if is_service_key(entry) or is_service_key(sha256):
        raise ValueError("holds a key. Write its SHA-256 instead, and replace the key.")
    if not _NAME.fullmatch(name):
        raise ValueError(
            "has no name of up to 32 lower case letters, digits, - and _. " + f"Write {_FORM}."
        )
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"has no SHA-256 of 64 hexadecimal digits in lower case. Write {_FORM}.")
    key = ServiceKey(name, bytes.fromhex(sha256), users)
    for option in options:
        key = _with_option(key, option)
    return key


def _with_option(key: ServiceKey, option: str) -> ServiceKey:
    name, _, value = option.partition("=")
    if name not in _OPTIONS:
        raise ValueError(f"has an option other than {', '.join(_OPTIONS)}. Write {_FORM}.")
    return _OPTIONS[name](key, value)


def _with_requests(key: ServiceKey, value: str) -> ServiceKey:
    return replace(key, limits=replace(key.limits, requests=_limit(value)))


def _with_tokens(key: ServiceKey, value: str) -> ServiceKey:
    return replace(key, limits=replace(key.limits, tokens=_limit(value)))


def _with_priority(key: ServiceKey, value: str) -> ServiceKey:
    if value != "bulk":
        raise ValueError("has a priority other than bulk. Leave it out for the one of users.")
    return replace(key, bulk=True)


_OPTIONS: Mapping[str, Callable[[ServiceKey, str], ServiceKey]] = {
    "requests": _with_requests,
    "tokens": _with_tokens,
    "priority": _with_priority,
}


def _limit(value: str) -> int | None:
    if value == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,13}", value, re.ASCII) or not 1 <= int(value) <= MAX_LIMIT:
        raise ValueError(f"has a limit that is neither none nor a number from 1 to {MAX_LIMIT}.")
    return int(value)

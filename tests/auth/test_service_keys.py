"""Lists of service keys: what they may say, and what happens while their file changes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from auth.principal import Principal
from auth.service_key_format import new_key
from auth.service_key_list import MAX_KEYS, CallerLimits
from auth.service_keys import ServiceKeys
from errors import ConfigurationError
from lab.service_keys import KEY
from lab.service_keys import OTHER_KEY as OTHER
from lab.signing import Clock

USERS = CallerLimits(requests=10, tokens=1000)


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def entry(name: str, key: str, options: str = "") -> str:
    return f"{name}:{digest(key).hex()}{options}"


def service(name: str) -> Principal:
    return Principal(f"service:{name}", caller=f"service:{name}")


# --- what an entry may say ------------------------------------------------------------------------


def test_limits_are_those_of_users_unless_an_entry_states_others() -> None:
    keys = ServiceKeys(f"{entry('a', KEY)}, {entry('b', OTHER, ':requests=600')}", users=USERS)
    assert keys.limits_of("service:a") == USERS
    assert keys.limits_of("service:b") == CallerLimits(requests=600, tokens=1000)
    assert keys.limits_of("a") is None


def test_a_service_may_have_no_limit_and_go_behind_all_other_work() -> None:
    options = ":requests=none:tokens=none:priority=bulk"
    keys = ServiceKeys(entry("a", KEY, options), users=USERS)
    assert keys.limits_of("service:a") == CallerLimits(None, None)
    found = keys.find(digest(KEY))
    assert found is not None
    assert found.bulk


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("indexer", "no SHA-256"),
        ("indexer:0123", "no SHA-256"),
        (entry("indexer", KEY).upper(), "no name"),
        (entry("", KEY), "no name"),
        (entry("in dexer", KEY), "no name"),
        (entry("a" * 33, KEY), "no name"),
        (entry("indexer", KEY, ":requests=0"), "a limit that is neither"),
        (entry("indexer", KEY, ":requests=-1"), "a limit that is neither"),
        (entry("indexer", KEY, ":tokens="), "a limit that is neither"),
        (entry("indexer", KEY, f":tokens={10**13}"), "a limit that is neither"),
        (entry("indexer", KEY, ":priority=high"), "a priority other than bulk"),
        (entry("indexer", KEY, ":request=600"), "an option other than"),
        (entry("indexer", KEY, ":"), "an option other than"),
        (f"indexer:{KEY}", "holds a key"),
        (KEY, "holds a key"),
        ("indexer:sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz", "holds a key"),
    ],
)
def test_a_wrong_entry_is_named_by_its_number_and_not_repeated(wrong: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^SERVICE_KEYS: entry 2 .*{said}") as error:
        ServiceKeys(f"{entry('good', OTHER)},{wrong}")
    assert len(str(error.value).splitlines()) == 1
    assert KEY not in str(error.value)
    assert digest(KEY).hex() not in str(error.value)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (f"{entry('a', KEY)},{entry('b', KEY)}", "a and b are the same key"),
        (f"{entry('a', KEY)},{entry('a', OTHER, ':tokens=5')}", "have different options"),
        (",".join(entry(f"k{i}", f"{i}") for i in range(MAX_KEYS + 1)), "more than 100"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(listed: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ServiceKeys(listed)


def test_two_keys_of_one_name_are_one_caller() -> None:
    keys = ServiceKeys(f"{entry('a', KEY)},{entry('a', OTHER)}")
    assert keys.find(digest(KEY)) == keys.find(digest(OTHER)) == service("a")


# --- the file -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def watched(keys: ServiceKeys) -> AsyncIterator[None]:
    await keys.start()
    try:
        yield
    finally:
        await keys.aclose()


async def until_found(keys: ServiceKeys, key: str, expected: Principal | None) -> None:
    async with asyncio.timeout(10):
        while keys.find(digest(key)) != expected:
            await asyncio.sleep(0.01)


def test_a_file_has_one_key_per_line_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# machines\n\n{entry('a', KEY)}  # of the indexer\n{entry('b', OTHER)}\r\n")
    keys = ServiceKeys(file=file)
    assert keys.find(digest(KEY)) == service("a")
    assert keys.find(digest(OTHER)) == service("b")


async def test_a_change_of_the_file_counts_within_seconds(tmp_path: Path) -> None:
    """Rotation: the new key is added, both are valid, the old one is removed."""
    file = tmp_path / "keys"
    file.write_text(entry("a", KEY))
    keys = ServiceKeys(entry("fixed", new_key()), file=file, interval=0.01)
    async with watched(keys):
        file.write_text(f"{entry('a', KEY)}\n{entry('a', OTHER)}\n")
        await until_found(keys, OTHER, service("a"))
        assert keys.find(digest(KEY)) == service("a")
        file.write_text(entry("a", OTHER))
        await until_found(keys, KEY, None)
        assert keys.find(digest(OTHER)) == service("a")


@pytest.mark.parametrize("broken", ["not a key", None, b"\xff", b"#" * 70_000])
async def test_a_broken_file_keeps_the_keys_and_is_told_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, broken: str | bytes | None
) -> None:
    caplog.set_level(logging.WARNING)
    file = tmp_path / "keys"
    file.write_text(entry("a", KEY))
    keys = ServiceKeys(file=file, interval=0.01, clock=clock)
    async with watched(keys):
        if broken is None:
            file.unlink()
        else:
            file.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
        async with asyncio.timeout(10):
            while not caplog.records:
                await asyncio.sleep(0.01)
        clock.now += 60
        await asyncio.sleep(0.1)
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert "SERVICE_KEYS_FILE" in record.getMessage()
        assert keys.find(digest(KEY)) == service("a")
        assert keys.age == 60
        file.write_text(entry("a", OTHER))
        await until_found(keys, OTHER, service("a"))
        assert keys.age == 0


@pytest.mark.parametrize("broken", ["not a key", b"\xff"])
async def test_a_file_that_is_as_it_was_is_no_longer_broken(
    tmp_path: Path, clock: Clock, broken: str | bytes
) -> None:
    file = tmp_path / "keys"
    file.write_text(entry("a", KEY))
    keys = ServiceKeys(file=file, interval=0.01, clock=clock)
    async with watched(keys):
        file.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
        clock.now += 60
        await asyncio.sleep(0.1)
        file.write_text(entry("a", KEY))
        async with asyncio.timeout(10):
            while keys.age:
                await asyncio.sleep(0.01)
        assert keys.find(digest(KEY)) == service("a")


async def test_the_file_is_read_again_once_there_is_room_for_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(entry("a", KEY))
    keys = ServiceKeys(file=file, interval=0.01)
    to_thread, failures = asyncio.to_thread, iter([RuntimeError("can't start new thread")] * 3)

    async def seldom(*arguments: Any) -> Any:
        if failure := next(failures, None):
            raise failure
        return await to_thread(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", seldom)
    async with watched(keys):
        file.write_text(entry("a", OTHER))
        await until_found(keys, OTHER, service("a"))


async def test_a_file_that_another_one_replaces_counts(tmp_path: Path) -> None:
    """As a mounted Kubernetes secret changes: the name leads to another file."""
    file, next_file = tmp_path / "keys", tmp_path / "next"
    file.write_text(entry("a", KEY))
    keys = ServiceKeys(file=file, interval=0.01)
    async with watched(keys):
        next_file.write_text(entry("a", OTHER))
        stat = file.stat()
        os.utime(next_file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        next_file.replace(file)
        await until_found(keys, OTHER, service("a"))
        assert keys.find(digest(KEY)) is None


def test_a_file_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SERVICE_KEYS_FILE cannot be read"):
        ServiceKeys(file=tmp_path / "nowhere")


def test_a_named_pipe_is_no_file_of_keys(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="SERVICE_KEYS_FILE cannot be read"):
        ServiceKeys(file=tmp_path / "pipe")


def test_a_wrong_line_of_the_file_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"\n{entry('a', KEY)}\nnonsense\n")
    with pytest.raises(ConfigurationError, match="SERVICE_KEYS_FILE: entry 3 has no SHA-256"):
        ServiceKeys(file=tmp_path / "keys")

"""Users that the operator refuses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from errors import ConfigurationError, GateError
from gate import blocked as module
from gate.blocked import KEY, BlockedUsers, parse_blocked
from gate.errors import UserBlocked
from lab.redis_server import RedisServer
from lab.signing import USER
from tests.gate.asgi import GateSetup, get, post

OTHER = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
async def users(fragile_redis: RedisServer) -> AsyncIterator[BlockedUsers]:
    async with contextlib.aclosing(
        BlockedUsers([USER.upper()], redis_url=fragile_redis.url, interval=0.02)
    ) as blocked:
        yield blocked


async def until(users: BlockedUsers, user: str, *, refused: bool) -> None:
    async with asyncio.timeout(5):
        while (user in users) != refused:
            await asyncio.sleep(0.01)


async def test_users_of_the_settings_are_refused(users: BlockedUsers) -> None:
    assert USER in users
    assert OTHER not in users


async def test_users_of_the_set_are_refused_from_the_start(
    users: BlockedUsers, fragile_redis: RedisServer
) -> None:
    fragile_redis.command("SADD", KEY, OTHER)
    await users.start()
    assert OTHER in users
    assert USER in users


async def test_the_set_is_followed(users: BlockedUsers, fragile_redis: RedisServer) -> None:
    await users.start()
    fragile_redis.command("SADD", KEY, OTHER.upper(), "auth0|someone")
    await until(users, OTHER, refused=True)
    assert "auth0|someone" in users
    fragile_redis.command("SREM", KEY, OTHER.upper())
    await until(users, OTHER, refused=False)
    fragile_redis.command("DEL", KEY)
    await until(users, "auth0|someone", refused=False)
    assert USER in users


async def test_the_last_set_counts_while_redis_is_away_or_the_key_is_none(
    users: BlockedUsers, fragile_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    fragile_redis.command("SADD", KEY, OTHER)
    await users.read()
    fragile_redis.command("DEL", KEY)
    fragile_redis.command("SET", KEY, OTHER)
    with caplog.at_level(logging.WARNING):
        await users.read()
        await users.read()
        fragile_redis.kill()
        await users.read()
    assert OTHER in users
    assert caplog.text.count("blocked_users_unreadable") == 1
    fragile_redis.start()
    await users.read()
    assert OTHER not in users


async def test_no_more_than_so_many_are_read(
    users: BlockedUsers,
    fragile_redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "MAX_BLOCKED", 10)
    fragile_redis.command("SADD", KEY, *map(str, range(100)))
    await users.read()
    assert sum(str(number) in users for number in range(100)) == 11
    assert "blocked_users_too_many" in caplog.text


async def test_without_redis_there_is_nothing_to_read() -> None:
    users = BlockedUsers([USER])
    await users.start()
    assert USER in users
    await users.aclose()


async def test_a_blocked_user_is_refused_before_anything_is_charged() -> None:
    setup = GateSetup()
    gate = setup.gate(blocked=BlockedUsers([USER]), failed_auth_per_minute=1)
    bearer = (b"authorization", f"Bearer {setup.project.hs256()}".encode())
    for request in (post(setup.project.hs256()), get("/usage", bearer)):
        for _ in range(3):
            with pytest.raises(UserBlocked):
                await request.through(gate)
        assert request.reads == 0
    assert (await setup.quota.usage(USER)).remaining == 100
    assert (await post(setup.project.hs256(sub=OTHER)).through(gate)).status == 200
    with pytest.raises(GateError) as refusal:
        await post("wrong").through(gate)
    assert refusal.value.reason == "token_invalid"


def test_user_ids_and_services_are_separated_by_commas() -> None:
    assert parse_blocked(f" {USER}, {OTHER},", subject="uuid") == {USER, OTHER}
    assert parse_blocked("auth0|a", subject="any") == {"auth0|a"}
    assert parse_blocked("service:indexer", subject="uuid") == {"service:indexer"}
    assert parse_blocked("", subject="uuid") == frozenset()


@pytest.mark.parametrize(("text", "subject"), [("a@b.c", "uuid"), ("a b", "any"), ("é", "any")])
def test_what_is_no_user_id_ends_the_start(text: str, subject: str) -> None:
    with pytest.raises(ConfigurationError, match="BLOCKED_USERS"):
        parse_blocked(text, subject=subject)  # type: ignore[arg-type]

"""A key set from a URL: fetched in the background, rarely, and by one task at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import httpx

from auth.errors import KeysUnavailable, TokenInvalid, UnknownKey
from auth.keys import PublicKey, matching, parse_jwks
from errors import whole_seconds

FRESH = 300.0  # seconds for which a key set is used without a fetch
STALE = 3600.0  # seconds for which it is used while its server fails
PAUSE = 30.0  # seconds between fetches for unknown key ids, and between refreshes that fail
COLD_PAUSE = 5.0  # seconds between fetches that fail while there is no key
DEADLINE = 3.0  # seconds for one fetch
WAIT = 1.0  # seconds that a caller waits for a fetch
MAX_WAITING = 128  # callers
MAX_BYTES = 65_536

log = logging.getLogger(__name__)


class RemoteKeys:
    """The keys at `url`. `clock`: seconds; only differences matter."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._client = httpx.AsyncClient(follow_redirects=False, timeout=DEADLINE)
        self._keys: tuple[PublicKey, ...] = ()
        self._absent: set[str] = set()  # key ids that the newest key set does not have
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._asked_for_unknown_at = float("-inf")
        self._fetch: asyncio.Task[bool] | None = None
        self._waiting = 0

    @property
    def age(self) -> float:
        """Seconds since the key set was fetched; infinite until it was."""
        return self._clock() - self._fetched_at

    async def start(self) -> bool:
        return await asyncio.shield(self._begin())

    @property
    def empty(self) -> bool:
        return not self._keys and self.age <= STALE

    async def aclose(self) -> None:
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.gather(self._fetch, return_exceptions=True)
        await self._client.aclose()

    def lacks(self, algorithm: str, kid: str | None) -> bool:
        return self.age <= STALE and not matching(self._keys, algorithm, kid)

    async def find(self, algorithm: str, kid: str | None) -> Sequence[PublicKey]:
        """The keys that may have signed a token: at once if present, else within WAIT seconds.

        Raises:
            KeysUnavailable: there is no key set.
            UnknownKey: the key may be new, and the key server does not answer.
            TokenInvalid: there is no such key.
        """
        if self.age > STALE:
            await self._have_keys()
        if found := self._at_hand(algorithm, kid):
            return found
        await self._look_again(algorithm, kid)
        return matching(self._keys, algorithm, kid)

    def _at_hand(self, algorithm: str, kid: str | None) -> Sequence[PublicKey]:
        """Matching keys of a set that is not too old; if it is not fresh, start a fetch."""
        if self.age > STALE:
            return ()
        if self.age > FRESH and self._clock() - self._tried_at >= PAUSE:
            self._begin()
        return matching(self._keys, algorithm, kid)

    async def _have_keys(self) -> None:
        since_try = self._clock() - self._tried_at
        if self._fetch is None and since_try < COLD_PAUSE:
            raise _unavailable(COLD_PAUSE - since_try)
        if not await self._fetched():
            raise _unavailable(COLD_PAUSE)

    async def _look_again(self, algorithm: str, kid: str | None) -> None:
        """Fetch for an unknown key id, which may be new: once in PAUSE seconds for all callers."""
        name = f"{algorithm} {kid}"
        since = self._clock() - self._asked_for_unknown_at
        if self._fetch is None and since < PAUSE:
            raise _no_such_key() if name in self._absent else _unknown_key(PAUSE - since)
        if self._fetch is None:
            self._asked_for_unknown_at = self._clock()
        if not await self._fetched():
            raise _unknown_key(PAUSE)
        if not matching(self._keys, algorithm, kid):
            self._absent.add(name)
            raise _no_such_key()

    async def _fetched(self) -> bool:
        """Wait for the one fetch of all callers, which goes on without them."""
        if self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT):
                return await asyncio.shield(self._begin())
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1

    def _begin(self) -> asyncio.Task[bool]:
        """The fetch under way, or a new one."""
        if self._fetch is None:
            self._tried_at = self._clock()
            self._fetch = asyncio.create_task(self._load())
        return self._fetch

    async def _load(self) -> bool:
        try:
            async with asyncio.timeout(DEADLINE):
                keys = parse_jwks(await self._download())
        except Exception as error:  # whatever the key server does wrong, there are no keys
            log.warning("jwks_fetch_failed error=%s", type(error).__name__)
            return False
        else:
            self._keys = keys
            self._fetched_at = self._clock()
            self._absent.clear()
            return True
        finally:
            self._fetch = None

    async def _download(self) -> bytes:
        """The document. Raises ValueError unless it is an uncompressed 200 of at most MAX_BYTES."""
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        async with self._client.stream("GET", self._url, headers=headers) as answer:
            if answer.status_code != httpx.codes.OK or "content-encoding" in answer.headers:
                raise ValueError("not a plain answer")
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError("too large")
        return bytes(body)


_KEEP = "cannot be fetched at the moment. Keep the token and try again."


def _unavailable(wait: float) -> KeysUnavailable:
    return KeysUnavailable(f"The keys that verify tokens {_KEEP}", retry_after=whole_seconds(wait))


def _unknown_key(wait: float) -> UnknownKey:
    return UnknownKey(
        f"The key that signed this token is not known here and {_KEEP}",
        retry_after=whole_seconds(wait),
    )


def _no_such_key() -> TokenInvalid:
    return TokenInvalid(
        "The token is signed with a key that this project does not publish. "
        "Sign in again to the project that is served here."
    )

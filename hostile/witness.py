"""A caller that the attack must not affect, in its own process.

python -m hostile.witness < orders

Reads one line of JSON with `port`, `path`, `body` (null for GET), `tokens` and `pause`, prints
`ready`, calls after a second line and ends after a third. Each call has the next of `tokens`. With
tokens, every second call has a new connection. Finally prints all calls as JSON:
[start on time.monotonic(), seconds, status].
"""

import contextlib
import http.client
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator

from hostile.attacks import VICTIM
from hostile.wire import HOST

PATIENCE = 60.0  # seconds for one answer
NICENESS = -10  # so that delays are those of the service, not of this process
LOST = 0  # the status of a call without an answer


class Witness:
    """Calls one path again and again."""

    def __init__(self, port: int, path: str, body: str | None, tokens: list[str]) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        self._method = "POST" if body else "GET"
        self._path = path
        self._body = body
        self._tokens: Iterator[str] = itertools.cycle(tokens or [""])
        self._stays = itertools.cycle([True, not tokens])

    def call(self) -> tuple[float, float, int]:
        headers = {"X-Forwarded-For": VICTIM, "Content-Type": "application/json"}
        if token := next(self._tokens):
            headers["Authorization"] = f"Bearer {token}"
        began = time.monotonic()
        try:
            self._connection.request(self._method, self._path, self._body, headers)
            answer = self._connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = LOST
            time.sleep(0.01)
        seconds = time.monotonic() - began
        if status == LOST or not next(self._stays):
            self._connection.close()
        return began, seconds, status


def _listen(told: threading.Event) -> None:
    sys.stdin.readline()
    told.set()


def main() -> None:
    with contextlib.suppress(PermissionError):
        os.nice(NICENESS)
    orders = json.loads(sys.stdin.readline())
    witness = Witness(orders["port"], orders["path"], orders["body"], orders["tokens"])
    print("ready", flush=True)
    sys.stdin.readline()
    told = threading.Event()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    calls = []
    while not told.is_set():
        calls.append(witness.call())
        time.sleep(orders["pause"])
    print(json.dumps(calls), flush=True)


if __name__ == "__main__":
    main()

"""The attackers, in a process of their own: python -m hostile.attacker < orders

Orders are one line of JSON with `row`, `port`, `tokens` and `seconds`, and one line to begin. Prints `ready`,
and in the end what came of it.
"""

import asyncio
import contextlib
import json
import os
import sys

import uvloop

from hostile.attacks import Attack, Front
from hostile.table import ROWS

NICENESS = 2


async def attack(kind: Attack, front: Front, seconds: float) -> None:
    """At full speed for so many seconds; then every connection is cut."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await kind.run(front)


def main() -> None:
    os.nice(NICENESS)
    orders = json.loads(sys.stdin.readline())
    kind = ROWS[orders["row"]].attack
    front = Front(orders["port"], orders["tokens"])
    print("ready", flush=True)
    sys.stdin.readline()
    uvloop.run(attack(kind, front, orders["seconds"]))
    print(json.dumps(front.outcomes), flush=True)


if __name__ == "__main__":
    main()

"""The attackers, in their own process.

python -m hostile.attacker < orders

Reads one line of JSON with `row`, `port`, `tokens` and `seconds`, prints `ready`, and attacks after
a second line. Finally prints the counts of outcomes as JSON.
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
    """Attack at full speed for some seconds, then abort every connection."""
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

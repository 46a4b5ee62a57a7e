"""The process of one side of a comparison.

    python -m benchmarks.worker NAME prepare
    python -m benchmarks.worker NAME DESCRIPTOR

The second sends the version of its package to the connection with that file descriptor. Then it
reads (token ids, calls) from it until None, and answers with the seconds of each call and the
vectors.
"""

import importlib
import importlib.metadata
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.sides import SIDES, THREADS


def serve(connection: Connection, embed: Any) -> None:
    """Answer requests. One more call is made before those that count, to fill caches."""
    for token_ids, calls in iter(connection.recv, None):
        vectors = embed(token_ids)
        seconds = []
        for _ in range(calls):
            started = time.perf_counter()
            vectors = embed(token_ids)
            seconds.append(time.perf_counter() - started)
        connection.send((seconds, vectors))


def main() -> None:
    side = SIDES[sys.argv[1]]
    task = sys.argv[2]
    module = importlib.import_module(f"benchmarks.peers.{side.module}")
    if task == "prepare":
        module.prepare(**side.options)
        return
    connection = Connection(int(task))
    embed = module.load(THREADS, **side.options)
    connection.send(importlib.metadata.version(module.PACKAGE) if module.PACKAGE else "")
    serve(connection, embed)


if __name__ == "__main__":
    main()

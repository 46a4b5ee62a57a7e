"""One side of a comparison in a process of its own.

    python -m benchmarks.worker NAME prepare
    python -m benchmarks.worker NAME DESCRIPTOR

The second reads (token ids, calls) from the connection of that file descriptor until it gets None,
and answers each with the seconds of every call and the vectors. First it sends the version of what
it runs.
"""

import importlib
import importlib.metadata
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.sides import SIDES, THREADS


def serve(connection: Connection, embed: Any) -> None:
    """Runs each request once more than it asks: the first call wakes threads and fills caches."""
    for token_ids, calls in iter(connection.recv, None):
        vectors, seconds = embed(token_ids), []
        for _ in range(calls):
            started = time.perf_counter()
            vectors = embed(token_ids)
            seconds.append(time.perf_counter() - started)
        connection.send((seconds, vectors))


def main() -> None:
    side, task = SIDES[sys.argv[1]], sys.argv[2]
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

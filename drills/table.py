"""Every drill: its fault, its service and its load."""

import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from drills import faults
from drills.faults import Stage

Environment = dict[str, str]


@dataclass(frozen=True)
class Drill:
    """One drill.

    `prepare` returns settings before the server starts. `frame` is entered when the server has
    started, and left after it has ended.
    """

    title: str
    fault: Callable[[Stage], Awaitable[None]]
    prepare: Callable[[Path, ExitStack], Environment] = lambda directory, stack: {}
    frame: Callable[[Stage], AbstractContextManager[None]] = lambda stage: nullcontext()
    signed_by_key: bool = False  # tokens are signed by a key of the key server, not by the secret
    # Texts of 2,048 tokens with a model of EmbeddingGemma's size, not sentences with the starter.
    long_texts: bool = False
    may_lose: int = 0  # calls
    may_refuse: bool = False
    seen: str = ""  # a regular expression that the notes must match


def _full_disk(directory: Path, stack: ExitStack) -> Environment:
    disk = stack.enter_context(faults.small_disk(directory))
    shutil.copytree(os.environ["BENTOML_HOME"], disk / "bentoml", ignore=_all_but_the_starter)
    (disk / "tmp").mkdir()
    return {"BENTOML_HOME": str(disk / "bentoml"), "TMPDIR": str(disk / "tmp")}


def _all_but_the_starter(directory: str, names: list[str]) -> list[str]:
    keep = "all-minilm-l6-v2-fp32"
    return [name for name in names if Path(directory).name == "models" and name != keep]


def _clock(directory: Path, stack: ExitStack) -> Environment:
    """Set the wall clock by libfaketime, through a file; monotonic clocks are not changed."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    assert library, "The clock is moved by libfaketime. On Debian: apt-get install faketime"
    (directory / "clock").write_text("+0s")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(directory / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


DRILLS = {
    "redis-killed": Drill("Redis killed (-9), back after 5 s", faults.redis_killed),
    "redis-frozen": Drill("Redis frozen for 30 s", faults.redis_frozen),
    "worker-killed": Drill(
        "worker killed (-9)",
        faults.worker_killed,
        may_lose=4,  # what its callers had in flight
        may_refuse=True,
    ),
    "sigterm": Drill(
        "SIGTERM with four long batches in flight",
        faults.sigterm,
        may_refuse=True,
        seen=r"\[200, 200, 200, 200\]; exit status 0",
    ),
    "memory": Drill(
        "700 MB of memory, texts of 2,048 tokens",
        faults.long_texts,
        frame=faults.within_700_mb,
        long_texts=True,
        seen="peak",
    ),
    "cpu": Drill("half a core for 20 s", faults.half_a_core),
    "key-server": Drill(
        "key server gone for 10 s, back with a new key",
        faults.no_key_server,
        signed_by_key=True,
        seen="meanwhile: 503 keys_unavailable, .* later: 200",
    ),
    "disk": Drill(
        "disk full: log, temporary files, model store",
        faults.full_disk,
        prepare=_full_disk,
        seen="full: all",
    ),
    "clock": Drill(
        "clock an hour ahead for 10 s, then back",
        faults.clock_jumps,
        prepare=_clock,
        seen="200, 401 token_expired, 200; fresh one: 200",
    ),
    "slow-clients": Drill(
        "1,000 clients that send one byte per second", faults.slow_clients, frame=faults.few_files
    ),
    "connections": Drill(
        "5,000 idle connections",
        faults.many_connections,
        frame=faults.few_files,
        seen="5000 opened",
    ),
    "leaving": Drill("60 clients disconnect during a batch", faults.leaving_clients),
}

"""Parts on the machines of a Ray cluster: one engine per node, each in a worker.

A worker that dies is started again, and its parts are made again.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is imported; nothing is sent anywhere
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a warning of what is to come

from embedder.errors import EmbedderError
from jobs import not_installed
from jobs.embedding import PARTS_AT_ONCE, Done, Engine, PartEmbedder
from jobs.errors import JobError, UsageError, one_line
from jobs.input.parts import Part
from jobs.job import Job

try:
    import ray
    from ray.exceptions import RayError
    from ray.util import ActorPool
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    not_installed(error.name)

PART_RETRIES = 5  # of a part whose worker dies each time; after that the part is the cause
SILENCE = 60.0  # seconds without a finished part after which something is said


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster and the CPUs that Ray gives away there."""

    id: str
    cpus: int


@dataclass(frozen=True, slots=True)
class Share:
    """The node of one engine, and its threads there."""

    node: str
    threads: int


def shares(nodes: Sequence[Node], *, workers: int | None, threads: int | None) -> list[Share]:
    """One engine per node, with all its CPUs; with `threads`, as many engines as the node has room for.

    The largest come first. Raises UsageError when there is no room; Ray would wait without end.
    """
    found = [
        Share(node.id, threads or node.cpus)
        for node in nodes
        if node.cpus
        for _ in range(node.cpus // (threads or node.cpus))
    ]
    if not found:
        largest = max((node.cpus for node in nodes), default=0)
        wanted = f"of {threads} threads " if threads else ""
        raise UsageError(f"a worker {wanted}fits no node: the largest has {largest} CPUs")
    if workers and workers > len(found):
        each = f"of {threads} threads" if threads else "with a node each"
        cpus = ", ".join(str(node.cpus) for node in nodes)
        room = f"there is room for {len(found)} (CPUs of the nodes: {cpus})"
        raise UsageError(f"{workers} workers {each} do not fit: {room}")
    return sorted(found, key=lambda share: -share.threads)[:workers]


@contextmanager
def running(address: str) -> Iterator[list[Node]]:
    """The cluster at `address`, for the time of a job."""
    try:
        _connect(address)
    except Exception as error:  # Ray raises that very class, too
        raise JobError(f"Ray at {address} cannot be used: {one_line(error)}") from error
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        yield [Node(node["NodeID"], int(node["Resources"].get("CPU", 0))) for node in alive]
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    """Twice: Ray gives its own processes 30 s, which a machine with much else to do may exceed."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        ray.init(address=address, **quiet)
    except Exception:
        ray.shutdown()
        ray.init(address=address, **quiet)


class PartWorker:
    """One engine. Takes parts and answers what became of them; errors are answers too."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._error: str | None = None
        try:
            self._parts = PartEmbedder(job, engine)
        except (JobError, EmbedderError) as error:
            self._error = one_line(error)
        except Exception as error:  # Ray would tell it in twenty lines
            self._error = f"{type(error).__name__}: {one_line(error)}"

    def run(self, part: Part) -> Done | str:
        """What became of a part, or why nothing did."""
        try:
            return self._error or self._parts.run(part)
        except JobError as error:
            return str(error)


def embed(
    job: Job,
    parts: Sequence[Part],
    engine: Engine,
    shares: Sequence[Share],
    *,
    say: Callable[[str], None],
) -> Iterator[Done]:
    """Every part through the worker of one of the shares, in the order they finish.

    `say` gets a message when none finishes for a while. Raises JobError when a part cannot be made.
    """
    actors = [_worker(job, engine, share) for share in shares]
    watch = Watch([actor.__ray_ready__.remote() for actor in actors], say)
    # A worker is in the pool once for each part it may have. In turns: each worker gets one part first.
    pool = ActorPool(actors * PARTS_AT_ONCE)
    try:
        for outcome in _outcomes(pool, parts, watch):
            if isinstance(outcome, str):
                while pool.has_next():  # a worker that is stopped at work makes Ray complain
                    pool.get_next_unordered()
                raise JobError(outcome)
            yield outcome
    except RayError as error:
        raise JobError(f"a worker failed: {one_line(error)}; the same command goes on") from error


def _worker(job: Job, engine: Engine, share: Share) -> Any:
    """An actor on the node of its share, or on another one when that node is gone."""
    options = {
        "num_cpus": share.threads,
        "max_concurrency": PARTS_AT_ONCE,
        "max_restarts": -1,
        "max_task_retries": PART_RETRIES,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(share.node, soft=True),
    }
    engine = replace(engine, threads=share.threads)
    return ray.remote(PartWorker).options(**options).remote(job, engine)


@dataclass
class Watch:
    """Waits for the next outcome, and says so when it takes long."""

    loaded: Sequence[Any]  # a promise of each worker, kept when it has its engine
    say: Callable[[str], None]

    def next(self, pool: ActorPool) -> Done | str:
        silent = 0.0
        while True:
            try:
                outcome: Done | str = pool.get_next_unordered(timeout=SILENCE)
                return outcome
            except TimeoutError:
                silent += SILENCE
                self.say(f"no part has finished for {silent:.0f} s; {self._engines()}")

    def _engines(self) -> str:
        _, waiting = ray.wait(list(self.loaded), num_returns=len(self.loaded), timeout=0)
        free = ray.available_resources().get("CPU", 0)
        rest = f", {len(waiting)} wait for CPUs ({free:.0f} free) or load" if waiting else ""
        return f"{len(self.loaded) - len(waiting)} of {len(self.loaded)} engines work{rest}"


def _outcomes(pool: ActorPool, parts: Sequence[Part], watch: Watch) -> Iterator[Done | str]:
    """One per part. Ray has at most PARTS_AT_ONCE parts per worker at a time."""
    for part in parts:
        if not pool.has_free():
            yield watch.next(pool)
        pool.submit(lambda worker, part: worker.run.remote(part), part)
    while pool.has_next():
        yield watch.next(pool)

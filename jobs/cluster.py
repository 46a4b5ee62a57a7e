"""Embed parts on a Ray cluster: one engine per node, each in a worker process.

Ray restarts a worker that dies, and its unfinished parts are embedded again.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no telemetry; read when ray is imported
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a FutureWarning

from embedder.errors import EmbedderError
from jobs import not_installed
from jobs.embedding import PARTS_AT_ONCE, Engine, FinishedPart, PartEmbedder
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

PART_RETRIES = 5  # a part whose worker dies this often is taken for the cause
SILENCE = 60.0  # seconds without a finished part before a message is printed


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster, and the number of CPUs that Ray schedules there."""

    id: str
    cpus: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The node that one engine runs on, and its number of threads."""

    node: str
    threads: int


def placements(
    nodes: Sequence[Node], *, workers: int | None, threads: int | None
) -> list[Placement]:
    """Distribute engines over nodes, the largest engines first.

    Args:
        nodes: of the cluster.
        workers: the number of engines; None for as many as fit.
        threads: of each engine; None for one engine per node with all its CPUs.

    Raises:
        UsageError: the engines do not fit; Ray would wait for free CPUs without end.
    """
    found: list[Placement] = []
    for node in nodes:
        size = threads or node.cpus
        engines = node.cpus // size if size else 0
        found += [Placement(node.id, size)] * engines
    if not found:
        largest = max((node.cpus for node in nodes), default=0)
        wanted = f"of {threads} threads " if threads else ""
        raise UsageError(f"a worker {wanted}fits no node: the largest has {largest} CPUs")
    if workers and workers > len(found):
        each = f"of {threads} threads" if threads else "with a node each"
        cpus = ", ".join(str(node.cpus) for node in nodes)
        room = f"there is room for {len(found)} (CPUs of the nodes: {cpus})"
        raise UsageError(f"{workers} workers {each} do not fit: {room}")
    return sorted(found, key=lambda placement: -placement.threads)[:workers]


@contextmanager
def running(address: str) -> Iterator[list[Node]]:
    """Connect to the cluster at `address`; yields its live nodes.

    Raises:
        JobError: the cluster cannot be reached.
    """
    try:
        _connect(address)
    except Exception as error:  # Ray also raises plain Exception
        raise JobError(f"Ray at {address} cannot be used: {one_line(error)}") from error
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        yield [Node(node["NodeID"], int(node["Resources"].get("CPU", 0))) for node in alive]
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    """Try twice: Ray allows its own processes 30 s, and a busy machine may take longer."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        ray.init(address=address, **quiet)
    except Exception:
        ray.shutdown()
        ray.init(address=address, **quiet)


class PartWorker:
    """One engine in a Ray actor. Errors are returned as messages, not raised."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._error: str | None = None
        try:
            self._parts = PartEmbedder(job, engine)
        except (JobError, EmbedderError) as error:
            self._error = one_line(error)
        except Exception as error:  # Ray would print a traceback of twenty lines
            self._error = f"{type(error).__name__}: {one_line(error)}"

    def run(self, part: Part) -> FinishedPart | str:
        """Embed a part; returns its result, or an error message of one line."""
        try:
            return self._error or self._parts.run(part)
        except JobError as error:
            return str(error)


def embed(
    job: Job,
    parts: Sequence[Part],
    engine: Engine,
    placements: Sequence[Placement],
    *,
    say: Callable[[str], None],
) -> Iterator[FinishedPart]:
    """Embed parts on the cluster.

    Args:
        job: what is read and written.
        parts: those to embed.
        engine: the model and its limits; its `threads` are replaced by those of each placement.
        placements: one per worker.
        say: gets a message when no part finishes for SILENCE seconds.

    Yields:
        Each part, in the order in which they finish.

    Raises:
        JobError: a part cannot be embedded, or its worker keeps failing.
    """
    actors = [_worker(job, engine, placement) for placement in placements]
    watch = OutcomeWaiter([actor.__ray_ready__.remote() for actor in actors], say)
    # A worker stands in the pool once for each part it may hold. The list repeats the workers in
    # order, so that each gets its first part before any gets a second.
    pool = ActorPool(actors * PARTS_AT_ONCE)
    try:
        for outcome in _outcomes(pool, parts, watch):
            if isinstance(outcome, str):
                while pool.has_next():  # Ray prints errors when a busy worker is stopped
                    pool.get_next_unordered()
                raise JobError(outcome)
            yield outcome
    except RayError as error:
        raise JobError(
            f"a worker failed: {one_line(error)}; the same command resumes the job"
        ) from error


def _worker(job: Job, engine: Engine, placement: Placement) -> Any:
    """An actor on the node of its placement, or on another when that node is gone."""
    options = {
        "num_cpus": placement.threads,
        "max_concurrency": PARTS_AT_ONCE,
        "max_restarts": -1,
        "max_task_retries": PART_RETRIES,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(placement.node, soft=True),
    }
    engine = replace(engine, threads=placement.threads)
    return ray.remote(PartWorker).options(**options).remote(job, engine)


@dataclass
class OutcomeWaiter:
    """Waits for the next finished part, and prints a message when that takes long."""

    loaded: Sequence[Any]  # one Ray reference per worker, ready once its engine is loaded
    say: Callable[[str], None]

    def next(self, pool: ActorPool) -> FinishedPart | str:
        silent = 0.0
        while True:
            try:
                outcome: FinishedPart | str = pool.get_next_unordered(timeout=SILENCE)
                return outcome
            except TimeoutError:
                silent += SILENCE
                self.say(f"no part has finished for {silent:.0f} s; {self._engines()}")

    def _engines(self) -> str:
        _, waiting = ray.wait(list(self.loaded), num_returns=len(self.loaded), timeout=0)
        free = ray.available_resources().get("CPU", 0)
        rest = f", {len(waiting)} wait for CPUs ({free:.0f} free) or load" if waiting else ""
        return f"{len(self.loaded) - len(waiting)} of {len(self.loaded)} engines work{rest}"


def _outcomes(
    pool: ActorPool, parts: Sequence[Part], watch: OutcomeWaiter
) -> Iterator[FinishedPart | str]:
    """One result per part. Ray holds at most PARTS_AT_ONCE parts per worker at a time."""
    for part in parts:
        if not pool.has_free():
            yield watch.next(pool)
        pool.submit(lambda worker, part: worker.run.remote(part), part)
    while pool.has_next():
        yield watch.next(pool)

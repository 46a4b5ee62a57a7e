"""Parts over Ray: one worker holds one engine; a worker that dies is started again and its part made anew."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is first imported; nothing is sent anywhere
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it would warn about what is to come

from embedder.errors import EmbedderError
from embedder.threads import available_threads
from jobs import not_installed
from jobs.errors import JobError, UsageError, describe, describe_row, one_line
from jobs.job import Job
from jobs.output import Counts
from jobs.parts import Part

try:
    import ray
    from ray.exceptions import RayError
    from ray.util import ActorPool
except ImportError as error:
    not_installed(error.name)

OBJECT_STORE = 100_000_000  # bytes; what goes through it are part numbers and counts
PART_RETRIES = 5  # of a part whose worker dies each time; more is not bad luck
SILENCE = 60.0  # seconds without a finished part after which something is said


@dataclass(frozen=True, slots=True)
class Engine:
    """What a worker loads and how much of the machine it may use."""

    directory: Path
    fingerprint: str
    threads: int
    max_tokens: int
    batch_tokens: int


@dataclass(frozen=True, slots=True)
class Size:
    """What a Ray has to give. A worker takes all its threads from one node."""

    cpus: tuple[int, ...]  # of each node

    def workers(self, wanted: int | None, threads: int) -> int:
        """How many to start: as many as there is room for, unless told. Raises UsageError; Ray would wait for ever."""
        room = sum(cpus // threads for cpus in self.cpus)
        if not room:
            raise UsageError(f"a worker of {threads} threads fits no node: the largest has {max(self.cpus)} CPUs")
        if wanted and wanted > room:
            nodes = "" if len(self.cpus) == 1 else f" on {len(self.cpus)} nodes"
            raise UsageError(
                f"{wanted} workers of {threads} threads want {wanted * threads} CPUs, and {sum(self.cpus)}{nodes} "
                f"have room for {room}"
            )
        return wanted or room


@dataclass(frozen=True, slots=True)
class Done:
    """One part, finished."""

    part: Part
    counts: Counts
    seconds: float  # in the worker


@contextmanager
def running(address: str | None) -> Iterator[Size]:
    """A Ray of this machine's size for the time of a job, or the cluster at `address`."""
    local = {
        "num_cpus": available_threads(),
        "num_gpus": 0,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
        "_node_ip_address": "127.0.0.1",  # what runs for one command is nobody else's: no port of it on the network
    }
    try:
        if address:
            _connect(address)
        else:
            _connect("local", **local)
    except Exception as error:  # Ray raises that very class, too
        raise JobError(f"Ray {f'at {address} ' if address else ''}cannot be used: {one_line(error)}") from error
    try:
        yield Size(tuple(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]) or (0,))
    finally:
        ray.shutdown()


def _connect(address: str, **options: Any) -> None:
    """Twice: Ray gives its own processes 30 s to start, which a machine with much else to do may need."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        ray.init(address=address, **quiet, **options)
    except Exception:
        ray.shutdown()
        ray.init(address=address, **quiet, **options)


class PartWorker:
    """One engine. Takes parts and answers what became of them; errors are answers too."""

    def __init__(self, job: Job, engine: Engine) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(engine.threads)  # the tokenizer's pool, made when it first works
        from jobs.embedding import PartEmbedder

        self._error: str | None = None
        try:
            self._parts = PartEmbedder(
                job,
                engine.directory,
                num_threads=engine.threads,
                max_tokens=engine.max_tokens,
                batch_tokens=engine.batch_tokens,
            )
            if self._parts.fingerprint != engine.fingerprint:
                self._error = f"{engine.directory} holds another model on a worker than on the machine of the command"
        except Exception as error:  # what a constructor raises, Ray would tell in twenty lines
            self._error = str(error) if isinstance(error, EmbedderError) else f"{type(error).__name__}: {error}"

    def run(self, part: Part) -> Done | str:
        """What became of a part, or why nothing did."""
        started = time.monotonic()
        try:
            return self._error or Done(part, self._parts.run(part), time.monotonic() - started)
        except OSError as error:
            return describe(error)
        except (JobError, EmbedderError) as error:
            return one_line(error)
        except MemoryError:
            return (
                "a worker has no memory left: give fewer --workers or a smaller --part-rows; the same command goes on"
            )
        except Exception as error:
            return describe_row(error, part.path, part.file_row)


def embed(
    job: Job, parts: Sequence[Part], engine: Engine, *, workers: int, say: Callable[[str], None]
) -> Iterator[Done]:
    """Every part through one of the workers, in the order they finish; `say` is told when none does for a while.

    Raises JobError when a part cannot be made.
    """
    worker = ray.remote(PartWorker).options(num_cpus=engine.threads, max_restarts=-1, max_task_retries=PART_RETRIES)
    actors = [worker.remote(job, engine) for _ in range(workers)]
    watch = Watch([actor.__ray_ready__.remote() for actor in actors], say)
    pool = ActorPool(actors)
    try:
        for outcome in _outcomes(pool, parts, watch):
            if isinstance(outcome, str):
                while pool.has_next():  # a worker that is stopped at work makes Ray complain
                    pool.get_next_unordered()
                raise JobError(outcome)
            yield outcome
    except RayError as error:
        raise JobError(f"a worker failed: {one_line(error)}; the same command goes on") from error


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
        ready, waiting = ray.wait(list(self.loaded), num_returns=len(self.loaded), timeout=0)
        free = ray.available_resources().get("CPU", 0)
        rest = f", {len(waiting)} wait for CPUs ({free:.0f} free) or load" if waiting else ""
        return f"{len(ready)} of {len(self.loaded)} engines work{rest}"


def _outcomes(pool: ActorPool, parts: Sequence[Part], watch: Watch) -> Iterator[Done | str]:
    """One a part. No more than one part a worker is with Ray at a time."""
    for part in parts:
        if not pool.has_free():
            yield watch.next(pool)
        pool.submit(lambda worker, part: worker.run.remote(part), part)
    while pool.has_next():
        yield watch.next(pool)

"""Parts over Ray: one worker holds one engine; a worker that dies is started again and its part made anew."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is first imported; nothing is sent anywhere
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it would warn about what is to come

import pyarrow as pa
import ray
from ray.exceptions import RayError
from ray.util import ActorPool

from embedder.errors import EmbedderError
from embedder.threads import available_threads
from jobs.errors import JobError, describe, one_line
from jobs.job import Job
from jobs.output import Counts
from jobs.parts import Part

OBJECT_STORE = 100_000_000  # bytes; what goes through it are part numbers and counts
PART_RETRIES = 5  # of a part whose worker dies each time; more is not bad luck


@dataclass(frozen=True, slots=True)
class Engine:
    """What a worker loads and how much of the machine it may use."""

    directory: Path
    fingerprint: str
    threads: int
    max_tokens: int
    batch_tokens: int


@dataclass(frozen=True, slots=True)
class Done:
    """One part, finished."""

    part: Part
    counts: Counts
    seconds: float  # in the worker


@contextmanager
def running(address: str | None) -> Iterator[int]:
    """A Ray of this machine's size for the time of a job, or the cluster at `address`. Gives the CPUs it has."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    local = {
        "num_cpus": available_threads(),
        "num_gpus": 0,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
        "_node_ip_address": "127.0.0.1",  # what runs for one command is nobody else's: no port of it on the network
    }
    try:
        ray.init(address=address or "local", **quiet, **({} if address else local))
    except (OSError, RuntimeError, ValueError, ConnectionError) as error:
        raise JobError(f"Ray {f'at {address} ' if address else ''}cannot be used: {one_line(error)}") from error
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


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
        except EmbedderError as error:
            self._error = str(error)

    def run(self, part: Part) -> Done | str:
        """What became of a part, or why nothing did."""
        started = time.monotonic()
        try:
            return self._error or Done(part, self._parts.run(part), time.monotonic() - started)
        except OSError as error:
            return describe(error)
        except (JobError, EmbedderError, pa.ArrowException) as error:
            return one_line(error)


def embed(job: Job, parts: Sequence[Part], engine: Engine, *, workers: int) -> Iterator[Done]:
    """Every part through one of the workers, in the order they finish.

    Raises JobError when a part cannot be made.
    """
    worker = ray.remote(PartWorker).options(num_cpus=engine.threads, max_restarts=-1, max_task_retries=PART_RETRIES)
    pool = ActorPool([worker.remote(job, engine) for _ in range(workers)])
    try:
        for outcome in _outcomes(pool, parts):
            if isinstance(outcome, str):
                while pool.has_next():  # a worker that is stopped at work makes Ray complain
                    pool.get_next_unordered()
                raise JobError(outcome)
            yield outcome
    except RayError as error:
        raise JobError(f"a worker failed: {one_line(error)}; the same command goes on") from error


def _outcomes(pool: ActorPool, parts: Sequence[Part]) -> Iterator[Done | str]:
    """One a part. No more than one part a worker is with Ray at a time."""
    for part in parts:
        if not pool.has_free():
            yield pool.get_next_unordered()
        pool.submit(lambda worker, part: worker.run.remote(part), part)
    while pool.has_next():
        yield pool.get_next_unordered()

"""Parts over Ray: one worker holds one engine; a worker that dies is started again and its part made anew."""

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is first imported; nothing is sent anywhere
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it would warn about what is to come
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # a restarted worker is no news to whoever runs a job

import pyarrow as pa
import ray
import ray.data

from embedder.errors import EmbedderError
from embedder.threads import available_threads
from jobs.errors import JobError, describe, one_line
from jobs.job import Job
from jobs.output import Counts
from jobs.parts import Part

OBJECT_STORE = 100_000_000  # bytes; what goes through it are part numbers and counts
PART_RETRIES = 5  # of a part whose worker dies each time; more is not bad luck
BLOCKS = 1_000  # Ray keeps some KB for each; a job of more parts puts several into one


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
    }
    try:
        ray.init(address=address or "local", **quiet, **({} if address else local))
    except (OSError, RuntimeError, ValueError, ConnectionError) as error:
        raise JobError(f"Ray {f'at {address} ' if address else ''}cannot be used: {one_line(error)}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1 << 20  # a part's outcome is some hundred bytes, not Ray's usual 128 MB
    context.execution_no_progress_timeout_s = -1  # a part of long texts may take its time
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


class Worker:
    """One engine. Takes parts, answers with what became of them; errors are answers too."""

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

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        for text in batch["part"]:
            yield {"outcome": [json.dumps(self._outcome(Part(**json.loads(text))))]}

    def _outcome(self, part: Part) -> dict[str, Any]:
        try:
            if self._error:
                raise JobError(self._error)
            started = time.monotonic()
            counts = self._parts.run(part)
            return {"part": asdict(part), "counts": asdict(counts), "seconds": time.monotonic() - started}
        except OSError as error:
            return {"error": describe(error)}
        except (JobError, EmbedderError, pa.ArrowException) as error:
            return {"error": one_line(error)}


def embed(job: Job, parts: Sequence[Part], engine: Engine, *, workers: int) -> Iterator[Done]:
    """Every part through one of the workers, in the order they finish.

    Raises JobError when a part cannot be made.
    """
    items = [{"part": json.dumps(asdict(part))} for part in parts]
    dataset = ray.data.from_items(items, override_num_blocks=min(len(items), BLOCKS)).map_batches(
        Worker,
        fn_constructor_args=(job, engine),
        batch_size=1,
        num_cpus=engine.threads,
        compute=ray.data.ActorPoolStrategy(size=workers),
        ray_remote_args_fn=lambda: {"max_task_retries": PART_RETRIES},
    )
    try:
        for row in dataset.iter_rows():
            outcome = json.loads(row["outcome"])
            if "error" in outcome:
                raise JobError(outcome["error"])
            yield Done(Part(**outcome["part"]), Counts(**outcome["counts"]), outcome["seconds"])
    except ray.exceptions.RayError as error:
        raise JobError(f"a worker failed: {one_line(error)}; the same command goes on") from error

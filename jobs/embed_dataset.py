"""Embed files with the service's own engine, on this machine or on a Ray cluster.

    python -m jobs.embed_dataset INPUT OUTPUT [--text COLUMN] [--id COLUMN] [--task NAME] ...

Model, precision and limits are the service's settings (MODEL_NAME, MODEL_QUANTIZATION, MAX_SEQ_LENGTH, ...).
Killed at any point, the same command goes on. Exit status: 0 all rows embedded, 1 failed, 2 wrong use,
3 done, and some rows are bad (OUTPUT/_bad_rows.jsonl says which and why).
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import bentoml
import pyarrow as pa
from tqdm import tqdm

from embedder.prepare import store
from embedder.profile import Profile, model_tag
from embedder.threads import available_threads
from jobs import machine, postgres
from jobs.command import finish, heed_sigterm, run_command
from jobs.embedding import Done, Engine
from jobs.errors import UsageError
from jobs.job import Job, add_arguments, check_wanted, make_job
from jobs.parts import Part
from jobs.progress import Progress, Summary
from settings import Settings, load_settings


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.embed_dataset", description="Embed files."
    )
    add_arguments(parser)
    parser.add_argument("--threads", type=int, help="of an engine (default: one for each CPU)")
    parser.add_argument("--address", help="of a Ray cluster; without, this machine alone")
    parser.add_argument("--workers", type=int, help="engines of the cluster (default: one a node)")
    parser.add_argument(
        "--to", metavar="postgresql://...", help="a database to load the vectors into as well"
    )
    parser.add_argument("--table", help="of that database; made if it is not there")
    options = parser.parse_args(arguments)
    if min(options.workers or 1, options.threads or 1) < 1:
        parser.error("--workers and --threads should be 1 or more")
    if options.workers and not options.address:
        parser.error("--workers goes with --address; one machine has one engine, with --threads")
    if bool(options.to) != bool(options.table):
        parser.error("--to and --table go together")
    return options


def find_model(settings: Settings) -> tuple[Path, Profile]:
    """The prepared model that the service would load. Raises UsageError when there is none."""
    name = model_tag(settings.model_name, settings.model_quantization, settings.model_backend)
    found = store.find(name)
    if found is None:
        raise UsageError(
            f"the model store has no whole {name}: run download_model.py (make model) first"
        )
    tag, profile = found
    return Path(bentoml.models.get(tag).path), profile


def engine_for(settings: Settings, *, threads: int | None) -> Engine:
    """The service's engine with the service's limits."""
    directory, profile = find_model(settings)
    return Engine(
        directory=directory,
        fingerprint=profile.fingerprint,
        threads=threads or available_threads(),
        max_tokens=min(settings.max_seq_length, profile.max_tokens),
        batch_tokens=settings.max_batch_tokens,
        kernel=settings.native_kernel,
    )


def embed(options: argparse.Namespace, job: Job, engine: Engine, parts: Sequence[Part]) -> Summary:
    """Make the parts that are missing."""
    done = job.output.done()
    missing = [part for part in parts if part.number not in done]
    total = sum(part.rows for part in parts)
    done_rows = total - sum(part.rows for part in missing)
    with Progress(total, done=done_rows, quiet=options.quiet) as progress:
        cores = make(options, job, engine, missing, progress) if missing else 0
    return progress.summary(cores=cores, price_per_month=options.price_per_month)


def make(
    options: argparse.Namespace,
    job: Job,
    engine: Engine,
    parts: Sequence[Part],
    progress: Progress,
) -> int:
    """Every part, here or on a cluster. Returns how many threads were at work."""

    def count(finished: Iterable[Done]) -> None:
        for one in finished:
            progress.add(
                one.part.rows,
                one.counts,
                seconds=one.seconds,
                core_seconds=one.core_seconds,
            )

    if not options.address:
        count(machine.embed(job, parts, engine, say=progress.say))
        return engine.threads
    from jobs import cluster  # Ray: 2 s to import, and a machine alone does without

    with cluster.running(options.address) as nodes:
        heed_sigterm()
        shares = cluster.shares(nodes, workers=options.workers, threads=options.threads)
        shares = shares[: len(parts)]
        count(cluster.embed(job, parts, engine, shares, say=progress.say))
    return sum(share.threads for share in shares)


def load(table: postgres.Table, job: Job, parts: Sequence[Part], *, quiet: bool) -> None:
    """Put every part into the database, in the order of the input."""
    progress = tqdm(total=len(parts), unit=" parts", desc=table.name, disable=quiet)
    with progress:
        for _ in table.load(job.output, [part.number for part in parts]):
            progress.update()


def make_table(options: argparse.Namespace, job: Job, dimensions: int) -> postgres.Table:
    id_type = job.types[job.columns.id] if job.columns.id else pa.int64()
    kept = {name: job.types[name] for name in job.columns.keep}
    return postgres.Table(
        options.to, options.table, id_type, kept, dimensions, job.wanted.output_type
    )


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    job = make_job(options)
    engine = engine_for(load_settings(), threads=options.threads)
    profile = Profile.load(engine.directory)
    check_wanted(job, profile)
    table = make_table(options, job, profile.size_of(job.wanted.dimensions)) if options.to else None
    if table:
        table.prepare()
    with job.output.locked():
        job = job.bound({"fingerprint": engine.fingerprint, "max_tokens": engine.max_tokens})
        parts = job.parts()
        summary = embed(options, job, engine, parts)
        if table:
            load(table, job, parts, quiet=options.quiet)
        return finish(job.output, parts, summary, quiet=options.quiet)


if __name__ == "__main__":
    sys.exit(run_command(main))

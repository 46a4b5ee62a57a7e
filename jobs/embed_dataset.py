"""Embed files with the service's own engine, on this machine or on a Ray cluster.

    python -m jobs.embed_dataset INPUT OUTPUT [--text COLUMN] [--id COLUMN] [--task NAME] ...

Model, precision and limits come from the service's settings (MODEL_NAME, MODEL_QUANTIZATION,
MAX_SEQ_LENGTH, ...). After an interruption at any point the same command resumes the job.
Exit status: 0 all rows embedded, 1 failed, 2 wrong use, 3 finished with bad rows, which
OUTPUT/_bad_rows.jsonl lists with their reasons.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import bentoml
import pyarrow as pa
from tqdm import tqdm

from embedder.prepare import store
from embedder.profile import Profile, model_tag
from embedder.threads import available_threads
from jobs import machine
from jobs.embedding import Engine, FinishedPart
from jobs.errors import UsageError, printable
from jobs.exit_status import finish, run_command, treat_sigterm_as_ctrl_c
from jobs.input.parts import Part
from jobs.input.rows import RowReader
from jobs.job import Job, add_arguments, check_supported, make_job
from jobs.output import postgres
from jobs.output.database import URL, database_of, shows_password
from jobs.progress import Progress, Summary
from settings import Settings, load_settings

PASSWORD_SHOWN = (
    "embedding-api: everybody on this machine can read the password of --to while this runs: "
    f"put it into PGPASSWORD or ~/.pgpass, or the whole URL into {URL}"
)
SEARCH = (
    "search them: JWT_TOKEN=... DATABASE_URL=... "
    "python examples/semantic_search.py QUESTION --table {table}"
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.embed_dataset", description="Embed files."
    )
    add_arguments(parser)
    parser.add_argument("--threads", type=int, help="per engine (default: one per CPU)")
    parser.add_argument("--address", help="of a Ray cluster (default: this machine alone)")
    parser.add_argument(
        "--workers", type=int, help="engines on the cluster (default: one per node)"
    )
    parser.add_argument(
        "--to",
        metavar="postgresql://...",
        help="a database to load the vectors into (default: DATABASE_URL, or PGHOST and "
        "PGSERVICE); put a password into PGPASSWORD or ~/.pgpass",
    )
    parser.add_argument("--table", help="in that database; created if it does not exist")
    options = parser.parse_args(arguments)
    if min(options.workers or 1, options.threads or 1) < 1:
        parser.error("--workers and --threads should be 1 or more")
    if options.workers and not options.address:
        parser.error("--workers goes with --address; one machine has one engine, with --threads")
    if options.to and not options.table:
        parser.error("--to goes with --table")
    return options


def find_model(settings: Settings) -> tuple[Path, Profile]:
    """The prepared model that the service would load: its directory and profile.

    Raises:
        UsageError: the model store does not have it.
    """
    name = model_tag(settings.model_name, settings.model_quantization, settings.model_backend)
    found = store.find(name)
    if found is None:
        raise UsageError(
            f"the model store has no complete {name}: run download_model.py (make model) first"
        )
    tag, profile = found
    return Path(bentoml.models.get(tag).path), profile


def engine_for(settings: Settings, *, threads: int | None) -> Engine:
    """An engine with the model and the limits of the service."""
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
    """Embed the parts that are missing."""
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
    """Embed parts, on this machine or on a cluster. Returns the number of threads at work."""

    def count(finished: Iterable[FinishedPart]) -> None:
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
    from jobs import cluster  # imports Ray, which takes 2 s and is not needed on one machine

    with cluster.running(options.address) as nodes:
        treat_sigterm_as_ctrl_c()
        placements = cluster.placements(nodes, workers=options.workers, threads=options.threads)
        placements = placements[: len(parts)]
        count(cluster.embed(job, parts, engine, placements, say=progress.say))
    return sum(placement.threads for placement in placements)


def load(table: postgres.Table, job: Job, parts: Sequence[Part], *, quiet: bool) -> str:
    """Load every part into the database, in the order of the input. Returns a line to print."""
    reader = RowReader(job.source, job.columns)
    total = sum(part.rows for part in parts)
    loaded = 0
    with tqdm(total=total, unit=" rows", desc=printable(table.name), disable=quiet) as progress:
        for part, rows in zip(parts, table.load(job.output, parts, reader), strict=True):
            loaded += rows
            progress.update(part.rows)
    return f"{loaded:,} rows loaded into {table.name}; {SEARCH.format(table=table.name)}"


def make_table(options: argparse.Namespace, job: Job, profile: Profile) -> postgres.Table:
    """The table of `--table`. Raises UsageError when no database is named."""
    database = database_of(options.to, os.environ)
    if database is None:
        raise UsageError(f"--table wants a database: give --to, {URL}, or PGHOST and PGDATABASE")
    if shows_password(options.to) and not options.quiet:
        print(PASSWORD_SHOWN, file=sys.stderr)
    return postgres.Table(
        database,
        options.table,
        job.types[job.columns.id] if job.columns.id else pa.int64(),
        {name: job.types[name] for name in job.columns.keep},
        profile.size_of(job.options.dimensions),
        job.options.output_type,
        profile.fingerprint,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns an exit status."""
    options = parse(arguments)
    job = make_job(options)
    engine = engine_for(load_settings(), threads=options.threads)
    profile = Profile.load(engine.directory)
    check_supported(job, profile)
    table = make_table(options, job, profile) if options.table else None
    if table:
        table.prepare()
    with job.output.locked():
        job = job.bound({"fingerprint": engine.fingerprint, "max_tokens": engine.max_tokens})
        parts = job.parts()
        said = [str(embed(options, job, engine, parts))]
        if table:
            said.append(load(table, job, parts, quiet=options.quiet))
        return finish(job.output, parts, said, quiet=options.quiet)


if __name__ == "__main__":
    sys.exit(run_command(main))

"""Embed files over HTTP, with only the URL of a running service.

    JWT_TOKEN=... python -m jobs.embed_remote URL INPUT OUTPUT [--text COLUMN] [--concurrency N] ...

Observes the service's limits: waits as long as `Retry-After` says. After an interruption at any
point the same command resumes the job. Exit statuses are those of jobs.embed_dataset.
"""

import argparse
import asyncio
import math
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from embedder.errors import DimensionsError
from jobs.errors import RowError, UsageError, job_error
from jobs.exit_status import finish, run_command
from jobs.input.parts import Part
from jobs.input.rows import Row, RowReader, refused_row
from jobs.job import Job, add_arguments, check_packing, make_job
from jobs.output.columns import Embedded, to_table
from jobs.output.directory import Counts
from jobs.progress import Progress
from jobs.remote.answers import Answer, ModelCard, Result, stack
from jobs.remote.service_client import BATCH_TEXTS, RefusedError, ServiceClient


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.embed_remote", description="Embed files through a service."
    )
    parser.add_argument(
        "url", metavar="URL", help="of the service, for example https://embeddings.example.com"
    )
    add_arguments(parser, part_rows=BATCH_TEXTS)
    parser.add_argument(
        "--concurrency", type=int, default=4, help="requests in flight (default: 4)"
    )
    options = parser.parse_args(arguments)
    if options.concurrency < 1:
        parser.error("--concurrency should be 1 or more")
    return options


class RemoteJob:
    """A job whose texts are embedded by a service."""

    def __init__(self, job: Job, client: ServiceClient, dimensions: int) -> None:
        self._job = job
        self._client = client
        self._dimensions = dimensions

    async def run(self, parts: Sequence[Part], progress: Progress, *, concurrency: int) -> None:
        """Embed parts, as many at a time as keep `concurrency` requests in flight."""
        waiting = iter(parts)

        async def work() -> None:
            reader = RowReader(self._job.source, self._job.columns)
            for part in waiting:
                started = time.monotonic()
                counts = await self._part(reader, part)
                progress.add(part.rows, counts, seconds=time.monotonic() - started)

        async with asyncio.TaskGroup() as group:
            for _ in range(parts_at_once(self._job.part_rows, concurrency)):
                group.create_task(work())

    async def _part(self, reader: RowReader, part: Part) -> Counts:
        try:
            return await self._embedded(reader, part)
        except Exception as error:
            raise job_error(error, part.path, part.file_row) from error

    async def _embedded(self, reader: RowReader, part: Part) -> Counts:
        job = self._job
        rows, bad = await asyncio.to_thread(reader.read, part)
        good: list[tuple[Row, Answer]] = []
        for row, result in zip(rows, await self._results(rows), strict=True):
            if isinstance(result, RowError):
                bad.append(refused_row(part, row, result))
            else:
                good.append((row, result))
        answers = [answer for _, answer in good]
        embedded = Embedded(
            rows=[row for row, _ in good],
            vectors=stack(answers, self._dimensions),
            tokens=[answer.tokens for answer in answers],
            windows=[answer.windows for answer in answers],
            truncated=[answer.truncated for answer in answers],
        )
        table = to_table(
            embedded, columns=job.columns, types=job.types, output_type=job.options.output_type
        )
        return await asyncio.to_thread(
            job.output.write, part.number, table, sorted(bad, key=lambda row: row.row)
        )

    async def _results(self, rows: Sequence[Row]) -> list[Result]:
        """One result per row. Rows with the same task, with or without a title, share requests."""
        groups: dict[tuple[str | None, bool], list[Row]] = {}
        for row in rows:
            task = row.task if self._job.columns.task else self._job.options.task
            groups.setdefault((task, row.title is not None), []).append(row)
        results: dict[int, Result] = {}
        for (task, titles), group in groups.items():
            try:
                results |= await self._client.embed(group, self._options(task), titles=titles)
            except RefusedError as error:
                if not self._job.columns.task:
                    raise
                # only these rows have the task that was refused
                results |= {row.number: RowError(str(error)) for row in group}
        return [results[row.number] for row in rows]

    def _options(self, task: str | None) -> dict[str, Any]:
        wanted = self._job.options
        given = {"task": task, "dimensions": wanted.dimensions, "overflow": wanted.overflow}
        return {name: value for name, value in given.items() if value is not None}


def parts_at_once(part_rows: int, concurrency: int) -> int:
    """One part more than `concurrency` requests need.

    Its requests are sent while the last ones of another part are still being answered.
    """
    return 1 + math.ceil(concurrency * BATCH_TEXTS / max(part_rows, BATCH_TEXTS))


async def embed(options: argparse.Namespace, job: Job, token: str) -> int:
    """Embed the parts that are missing. Returns the exit status."""
    progress: Progress | None = None

    def say(text: str) -> None:
        if progress:
            progress.say(text)
        elif not options.quiet:
            print(text, file=sys.stderr)

    client = ServiceClient(options.url, token, concurrency=options.concurrency, say=say)
    try:
        card = await client.look()
        dimensions = _dimensions(job, card)
        client.expect(card.fingerprint, dimensions)
        job = job.bound({"fingerprint": card.fingerprint, "max_tokens": card.max_tokens})
        parts = job.parts()
        done = job.output.done()
        missing = [part for part in parts if part.number not in done]
        total = sum(part.rows for part in parts)
        done_rows = total - sum(part.rows for part in missing)
        with Progress(total, done=done_rows, quiet=options.quiet) as progress:
            remote = RemoteJob(job, client, dimensions)
            await remote.run(missing, progress, concurrency=options.concurrency)
    finally:
        await client.close()
    summary = progress.summary(cores=None, price_per_month=options.price_per_month)
    return finish(job.output, parts, [str(summary)], quiet=options.quiet)


def _dimensions(job: Job, card: ModelCard) -> int:
    """The dimensions of the vectors.

    Raises:
        DimensionsError: the model does not support those that were asked for.
    """
    wanted = job.options.dimensions
    sizes = card.dimensions
    if wanted is not None and wanted not in sizes:
        raise DimensionsError(wanted, sizes)
    return check_packing(job.options, wanted or max(sizes))


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns an exit status."""
    options = parse(arguments)
    token = os.environ.get("JWT_TOKEN")
    if not token:
        raise UsageError("set JWT_TOKEN to an access token of the service's project")
    job = make_job(options)
    with job.output.locked():
        try:
            return asyncio.run(embed(options, job, token))
        except ExceptionGroup as group:  # of the tasks; the first failure is reported
            raise group.exceptions[0] from None


if __name__ == "__main__":
    sys.exit(run_command(main))

"""Embed files through a running service, for those who have its URL alone.

    JWT_TOKEN=... python -m jobs.embed_remote URL INPUT OUTPUT [--text COLUMN] [--concurrency N] ...

Keeps to the service's limits: it waits as long as `Retry-After` says. Killed at any point, the same command goes
on. Exit status as of jobs.embed_dataset.
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
from jobs.command import finish, run_command
from jobs.errors import RowError, UsageError, job_error
from jobs.input.parts import Part
from jobs.input.rows import Row, RowReader, refused
from jobs.job import Job, add_arguments, check_packing, make_job
from jobs.output.columns import Embedded, to_table
from jobs.output.directory import Counts
from jobs.progress import Progress
from jobs.remote.answers import Answer, Card, Result, stack
from jobs.remote.service_client import BATCH_TEXTS, RefusedError, ServiceClient


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.embed_remote", description="Embed files through a service."
    )
    parser.add_argument(
        "url", metavar="URL", help="of the service, such as https://embeddings.example.com"
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
    """A job whose engine is elsewhere."""

    def __init__(self, job: Job, client: ServiceClient, dimensions: int) -> None:
        self._job, self._client, self._dimensions = job, client, dimensions

    async def run(self, parts: Sequence[Part], progress: Progress, *, concurrency: int) -> None:
        """Every part, as many at a time as hold `concurrency` requests."""
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
                bad.append(refused(part, row, result))
            else:
                good.append((row, result))
        answers = [answer for _, answer in good]
        embedded = Embedded(
            rows=[row for row, _ in good],
            vectors=stack(answers, self._dimensions),
            tokens=[answer.tokens for answer in answers],
            truncated=[answer.truncated for answer in answers],
        )
        table = to_table(
            embedded, columns=job.columns, types=job.types, output_type=job.wanted.output_type
        )
        return await asyncio.to_thread(
            job.output.write, part.number, table, sorted(bad, key=lambda row: row.row)
        )

    async def _results(self, rows: Sequence[Row]) -> list[Result]:
        """One per row; rows of one task, with a title or without, go together."""
        groups: dict[tuple[str | None, bool], list[Row]] = {}
        for row in rows:
            task = row.task if self._job.columns.task else self._job.wanted.task
            groups.setdefault((task, row.title is not None), []).append(row)
        results: dict[int, Result] = {}
        for (task, titles), group in groups.items():
            try:
                results |= await self._client.embed(group, self._options(task), titles=titles)
            except RefusedError as error:
                if not self._job.columns.task:
                    raise
                # the task of these rows, not of the job
                results |= {row.number: RowError(str(error)) for row in group}
        return [results[row.number] for row in rows]

    def _options(self, task: str | None) -> dict[str, Any]:
        wanted = self._job.wanted
        given = {"task": task, "dimensions": wanted.dimensions, "truncate": wanted.truncate}
        return {name: value for name, value in given.items() if value is not None}


def parts_at_once(part_rows: int, concurrency: int) -> int:
    """One more than have `concurrency` batches: its requests fill the gap while another's last are answered."""
    return 1 + math.ceil(concurrency * BATCH_TEXTS / max(part_rows, BATCH_TEXTS))


async def embed(options: argparse.Namespace, job: Job, token: str) -> int:
    """Make the parts that are missing. Returns the exit status."""
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
        parts, done = job.parts(), job.output.done()
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


def _dimensions(job: Job, card: Card) -> int:
    """Of the vectors. Raises DimensionsError when the model has no such size."""
    wanted, sizes = job.wanted.dimensions, card.dimensions
    if wanted is not None and wanted not in sizes:
        raise DimensionsError(wanted, sizes)
    return check_packing(job.wanted, wanted or max(sizes))


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    token = os.environ.get("JWT_TOKEN")
    if not token:
        raise UsageError("set JWT_TOKEN to an access token of the service's project")
    job = make_job(options)
    with job.output.locked():
        try:
            return asyncio.run(embed(options, job, token))
        except ExceptionGroup as group:  # of the tasks; the first that failed says it
            raise group.exceptions[0] from None


if __name__ == "__main__":
    sys.exit(run_command(main))

"""Embed one part with one engine: rows in, a file of vectors out."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedder.errors import OptionError
from embedder.model import EmbeddingModel
from embedder.model import Engine as AnyEngine
from embedder.overflow import AVERAGE, ERROR, average
from embedder.postprocess import truncate_vectors
from embedder.tasks import prompts_for
from embedder.tokenized_text import TokenizedText
from jobs.errors import JobError, RowError, job_error, one_line
from jobs.input.parts import Part
from jobs.input.rows import BadRow, Row, RowReader, refused_row
from jobs.job import Job
from jobs.output.columns import Embedded, to_table
from jobs.output.directory import Counts

Vector: TypeAlias = NDArray[np.float32]  # (dimensions,)
Fit: TypeAlias = list[tuple[Row, TokenizedText]]

# Parts in progress per engine: one is being embedded, one read and tokenised, one written. On a
# local disk one part at a time keeps the engine busy for 93 % of the time, two or three for 99 %;
# the third is for object stores, where reading and writing may take longer than the engine.
PARTS_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Engine:
    """The model of an engine, its threads and its limits."""

    directory: Path
    fingerprint: str
    threads: int
    max_tokens: int  # per text
    batch_tokens: int  # per forward pass
    kernel: str | None = None  # of the native engine; None for the fastest

    def load(self) -> EmbeddingModel:
        """Load the model in this process. Raises the errors of `EmbeddingModel.load`."""
        # The tokenizer's thread pool takes every CPU unless this is set before its first use.
        os.environ["RAYON_NUM_THREADS"] = str(self.threads)
        return EmbeddingModel.load(
            self.directory,
            num_threads=self.threads,
            max_tokens=self.max_tokens,
            batch_tokens=self.batch_tokens,
            kernel=self.kernel,
        )


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """One part that was embedded and written."""

    part: Part
    counts: Counts
    seconds: float  # from the first row read to the file written
    core_seconds: float  # seconds of the engine, times its threads


class PartEmbedder:
    """One engine that embeds parts and writes them.

    Threads share it: while one runs the engine, another reads and tokenises the next part.

    Raises:
        JobError: the directory holds another model than `engine` names.
    """

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job = job
        self._threads = engine.threads
        self._reader = RowReader(job.source, job.columns)
        self._model = engine.load()
        if self._model.profile.fingerprint != engine.fingerprint:
            raise JobError(
                f"{engine.directory} holds another model than the machine of the command has"
            )
        self._reading = Lock()
        self._computing = Lock()

    def run(self, part: Part) -> FinishedPart:
        """Embed and write a part, unless it is already written.

        Raises:
            JobError: the part cannot be read, embedded or written; its message is one line.
        """
        started = time.monotonic()
        try:
            counts = self._job.output.counts(part.number)
            computing = 0.0
            if counts is None:
                counts, computing = self._make(part)
        except Exception as error:
            raise job_error(error, part.path, part.file_row) from error
        return FinishedPart(part, counts, time.monotonic() - started, computing * self._threads)

    def _make(self, part: Part) -> tuple[Counts, float]:
        """Embed and write a part; returns its counts and the seconds of the engine."""
        job = self._job
        with self._reading:  # the reader has a position in a file
            rows, bad = self._reader.read(part)
        fit, unfit = self._tokenised(part, rows)
        with self._computing:
            started = time.monotonic()
            vectors = forward(self._model.engine, [tokens for _, tokens in fit])
            seconds = time.monotonic() - started
        embedded, failed = self._embedded(part, fit, vectors)
        table = to_table(
            embedded,
            columns=job.columns,
            types=job.types,
            output_type=job.options.output_type,
        )
        bad = sorted([*bad, *unfit, *failed], key=lambda row: row.row)
        return job.output.write(part.number, table, bad), seconds

    def _tokenised(self, part: Part, rows: Sequence[Row]) -> tuple[Fit, list[BadRow]]:
        """Rows with their token ids, and rows that have none."""
        fit: Fit = []
        unfit: list[BadRow] = []
        for row, tokens in zip(rows, self._tokenise(rows), strict=True):
            if isinstance(tokens, RowError):
                unfit.append(refused_row(part, row, tokens))
            else:
                fit.append((row, tokens))
        return fit, unfit

    def _embedded(
        self,
        part: Part,
        fit: Fit,
        found: Sequence[Vector | RowError],
    ) -> tuple[Embedded, list[BadRow]]:
        """Rows with their vectors, and rows that the engine fails on."""
        kept: list[tuple[Row, TokenizedText, Vector]] = []
        failed: list[BadRow] = []
        for (row, tokens), vector in zip(fit, found, strict=True):
            if isinstance(vector, RowError):
                failed.append(refused_row(part, row, vector))
            else:
                kept.append((row, tokens, vector))
        profile = self._model.profile
        vectors = np.array([vector for *_, vector in kept], np.float32)
        embedded = Embedded(
            rows=[row for row, *_ in kept],
            vectors=truncate_vectors(
                vectors.reshape(-1, profile.dimensions),
                profile.size_of(self._job.options.dimensions),
            ),
            tokens=[len(tokens.ids) for _, tokens, _ in kept],
            windows=[tokens.n_windows for _, tokens, _ in kept],
            truncated=[tokens.truncated for _, tokens, _ in kept],
        )
        return embedded, failed

    def _tokenise(self, rows: Sequence[Row]) -> list[TokenizedText | RowError]:
        """Token ids of each row, after the prompt of its task; an error for rows without any."""
        prompts = [self._prompt(row) for row in rows]
        pairs = zip(prompts, rows, strict=True)
        fine = [(prompt, row.text) for prompt, row in pairs if isinstance(prompt, str)]
        encoded = self._model.tokenizer.encode(
            [text for _, text in fine],
            prompt=[prompt for prompt, _ in fine],
            max_tokens=self._model.max_tokens,
            average=self._job.options.overflow == AVERAGE,
        )
        found = map(self._uncut, encoded)
        return [prompt if isinstance(prompt, RowError) else next(found) for prompt in prompts]

    def _prompt(self, row: Row) -> str | RowError:
        titles = None if row.title is None else [row.title]
        try:
            task = row.task if self._job.columns.task else self._job.options.task
            return prompts_for(self._model.profile.tasks, task, titles=titles, n_texts=1)[0]
        except OptionError as error:
            return RowError(str(error))

    def _uncut(self, tokens: TokenizedText) -> TokenizedText | RowError:
        return uncut(tokens) if self._job.options.overflow == ERROR else tokens


def uncut(tokens: TokenizedText) -> TokenizedText | RowError:
    """The text, or an error where it was truncated."""
    if not tokens.truncated:
        return tokens
    return RowError(f"at least {tokens.n_tokens} tokens, the limit is {len(tokens.ids)}")


def forward(engine: AnyEngine, tokens: Sequence[TokenizedText]) -> list[Vector | RowError]:
    """One vector or error per text. When a batch fails, its texts are tried one by one."""
    if not tokens:
        return []
    try:
        vectors = average(
            engine.forward([window for text in tokens for window in text.windows]),
            [text.weights for text in tokens],
        )
    except MemoryError:  # no single text is the cause
        raise
    except Exception as error:
        if len(tokens) == 1:
            reason = f"the engine fails on it ({type(error).__name__}: {one_line(error)})"
            return [RowError(reason)]
        return [found for text in tokens for found in forward(engine, [text])]
    finite = np.logical_and.reduce(np.isfinite(vectors), axis=1)
    return [
        vector if ok else RowError("the model gives no finite vector")
        for vector, ok in zip(vectors, finite, strict=True)
    ]

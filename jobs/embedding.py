"""One part through the engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedder.errors import OptionError, TextTooLongError
from embedder.model import EmbeddingModel
from embedder.postprocess import cut
from embedder.tasks import prompts_for
from embedder.tokens import Tokens, check_uncut
from jobs.columns import Embedded, to_table
from jobs.errors import RowError, one_line
from jobs.job import Job
from jobs.output import Counts
from jobs.parts import Part
from jobs.rows import BadRow, Reader, Row, bad_row

Vector: TypeAlias = NDArray[np.float32]  # (dimensions,)
NOT_FINITE = "the model gives no finite vector"


class PartEmbedder:
    """Reads a part, embeds it and writes it; the engine is the service's own."""

    def __init__(self, job: Job, directory: Path, *, num_threads: int, max_tokens: int, batch_tokens: int) -> None:
        self._job = job
        self._reader = Reader(job.source, job.columns)
        self._model = EmbeddingModel.load(
            directory, num_threads=num_threads, max_tokens=max_tokens, batch_tokens=batch_tokens
        )

    @property
    def fingerprint(self) -> str:
        """Of the vector space."""
        return self._model.profile.fingerprint

    def run(self, part: Part) -> Counts:
        """Rows of a part -> its file. A part that is there already is not made again."""
        job = self._job
        if (counts := job.output.counts(part.number)) is not None:
            return counts
        rows, bad = self._reader.read(part)
        embedded, failed = self._embed(part, rows)
        table = to_table(embedded, columns=job.columns, types=job.types, output_type=job.wanted.output_type)
        return job.output.write(part.number, table, sorted([*bad, *failed], key=lambda row: row.row))

    def _embed(self, part: Part, rows: Sequence[Row]) -> tuple[Embedded, list[BadRow]]:
        bad: list[BadRow] = []
        good: list[tuple[Row, Tokens]] = []
        for row, tokens in zip(rows, self._tokenise(rows), strict=True):
            if isinstance(tokens, RowError):
                tokens.id = row.id
                bad.append(bad_row(part, row.number, tokens))
            else:
                good.append((row, tokens))
        kept: list[tuple[Row, Tokens, Vector]] = []
        for (row, tokens), vector in zip(good, self._forward([tokens for _, tokens in good]), strict=True):
            if isinstance(vector, RowError):
                vector.id = row.id
                bad.append(bad_row(part, row.number, vector))
            else:
                kept.append((row, tokens, vector))
        profile = self._model.profile
        vectors = np.array([vector for *_, vector in kept], np.float32).reshape(-1, profile.dimensions)
        embedded = Embedded(
            rows=[row for row, *_ in kept],
            vectors=cut(vectors, profile.size_of(self._job.wanted.dimensions)),
            tokens=[len(tokens.ids) for _, tokens, _ in kept],
            truncated=[tokens.truncated for _, tokens, _ in kept],
        )
        return embedded, bad

    def _tokenise(self, rows: Sequence[Row]) -> list[Tokens | RowError]:
        """Token ids of each row behind the prompt of its task, or why there are none."""
        prompts = [self._prompt(row) for row in rows]
        fine = [index for index, prompt in enumerate(prompts) if isinstance(prompt, str)]
        encoded = self._model.tokenizer.encode(
            [rows[index].text for index in fine],
            prompt=[str(prompts[index]) for index in fine],
            max_tokens=self._model.max_tokens,
        )
        found: dict[int, Tokens | RowError] = dict(zip(fine, map(self._uncut, encoded), strict=True))
        return [found.get(index, prompt) for index, prompt in enumerate(prompts)]  # type: ignore[arg-type]

    def _prompt(self, row: Row) -> str | RowError:
        titles = None if row.title is None else [row.title]
        try:
            task = row.task if self._job.columns.task else self._job.wanted.task
            return prompts_for(self._model.profile.tasks, task, titles=titles, n_texts=1)[0]
        except OptionError as error:
            return RowError(str(error))

    def _uncut(self, tokens: Tokens) -> Tokens | RowError:
        if not self._job.wanted.truncate:
            try:
                check_uncut([tokens])
            except TextTooLongError as error:
                return RowError(f"{error.n_tokens} tokens, the limit is {error.max_tokens}")
        return tokens

    def _forward(self, tokens: Sequence[Tokens]) -> list[Vector | RowError]:
        """A vector a text, or why there is none; what fails together is tried text by text."""
        if not tokens:
            return []
        try:
            vectors = self._model.embed_tokens([text.ids for text in tokens])
        except MemoryError:  # the machine's fault and no text's
            raise
        except Exception as error:
            if len(tokens) == 1:
                return [RowError(f"the engine fails on it ({type(error).__name__}: {one_line(error)})")]
            return [found for text in tokens for found in self._forward([text])]
        finite = np.logical_and.reduce(np.isfinite(vectors), axis=1)
        return [
            v if ok else RowError("the model gives no finite vector") for v, ok in zip(vectors, finite, strict=True)
        ]

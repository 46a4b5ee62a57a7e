"""The directory of finished parts.

    _manifest.json        what this output is of; written first
    part-00017.parquet    vectors of one part; there whole or not at all
    _bad/part-00017.jsonl rows of that part without a vector, written before it
    _bad_rows.jsonl       all of those, written when every part is there

Readers of Parquet directories pass over names that begin with an underscore.
"""

import fcntl
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.columns import TOKENS, TRUNCATED
from jobs.errors import JobError, UsageError, one_line
from jobs.places import UNFINISHED, Place
from jobs.rows import BadRow

MANIFEST, BAD, BAD_ROWS, LOCK = "_manifest.json", "_bad", "_bad_rows.jsonl", "_lock"
COUNTS = b"counts"  # of a part, in the metadata of its schema
_PART = re.compile(r"part-(\d+)\.parquet")


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a part."""

    texts: int  # embedded
    tokens: int
    truncated: int
    failed: int

    def __add__(self, other: "Counts") -> "Counts":
        ours, theirs = asdict(self), asdict(other)
        return Counts(**{name: ours[name] + theirs[name] for name in ours})


NOTHING = Counts(0, 0, 0, 0)


def part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


@dataclass(frozen=True, slots=True)
class Output:
    """One job's results at one place."""

    place: Place

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes here meanwhile; where the place is local, that is made sure of."""
        self.place.filesystem.create_dir((self.place / BAD).path, recursive=True)
        if not self.place.is_local:
            yield
            return
        with Path((self.place / LOCK).path).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobError(f"{self.place.path} is being written by another job; wait for it") from None
            yield

    def bind(self, manifest: Mapping[str, Any]) -> None:
        """Make this the output of `manifest`, or see that it is.

        Raises UsageError when the place holds something else; the message names what differs.
        """
        path = self.place / MANIFEST
        wanted = json.loads(json.dumps(manifest))
        found = json.loads(path.read()) if path.exists() else None
        if found is None and [info for info in self.place.files() if info.base_name != LOCK]:
            raise UsageError(f"{self.place.path} holds files of something else; give a directory of its own")
        if found != wanted:
            if found is not None and self.done():
                _refuse(self.place.path, found, wanted)
            for info in (self.place / BAD).files():  # of a job that made no part
                (self.place / BAD / info.base_name).remove()
            path.write([json.dumps(wanted, indent=1, ensure_ascii=False).encode()])
        self._sweep()

    def _sweep(self) -> None:
        """Remove what killed writers left half-written."""
        for directory in (self.place, self.place / BAD):
            for info in directory.files():
                if info.base_name.startswith(UNFINISHED):
                    (directory / info.base_name).remove()

    def done(self) -> set[int]:
        """Numbers of the parts that are there."""
        matches = (_PART.fullmatch(info.base_name) for info in self.place.files())
        return {int(match[1]) for match in matches if match}

    def write(self, number: int, table: pa.Table, bad: Sequence[BadRow]) -> Counts:
        """Write one part, its bad rows first: a part that is there is complete."""
        counts = _counts(table, bad)
        if bad:
            lines = ((json.dumps(asdict(row), default=str) + "\n").encode() for row in bad)
            (self.place / BAD / part_name(number).replace(".parquet", ".jsonl")).write(lines)
        sink = pa.BufferOutputStream()
        metadata = {COUNTS: json.dumps(asdict(counts)).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd", use_dictionary=False)
        (self.place / part_name(number)).write([sink.getvalue()])
        return counts

    def counts(self, number: int) -> Counts:
        """Of a part that is there. Raises JobError when it cannot be read."""
        path = (self.place / part_name(number)).path
        try:
            with self.place.filesystem.open_input_file(path) as file:
                return Counts(**json.loads(pq.read_schema(file).metadata[COUNTS]))
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise JobError(f"{path} is damaged ({one_line(error)}): delete it and run the same command") from error

    def table(self, number: int) -> pa.Table:
        """A part that is there."""
        with self.place.filesystem.open_input_file((self.place / part_name(number)).path) as file:
            return pq.read_table(file)

    def finish(self) -> int:
        """Gather the bad rows of all parts in one file. Returns how many there are."""
        count = 0

        def gathered() -> Iterator[bytes]:
            nonlocal count
            for info in (self.place / BAD).files():
                rows = (self.place / BAD / info.base_name).read()
                count += rows.count(b"\n")
                yield rows

        (self.place / BAD_ROWS).write(gathered())
        return count


def _counts(table: pa.Table, bad: Sequence[BadRow]) -> Counts:
    tokens, truncated = (sum(table.column(name).to_pylist()) for name in (TOKENS, TRUNCATED))
    return Counts(table.num_rows, tokens, truncated, len(bad))


def _refuse(path: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> NoReturn:
    other = [name for name in wanted if found.get(name) != wanted[name]]
    raise UsageError(
        f"{path} holds a job with other {', '.join(other)}: repeat that job's command, or give another directory"
    )

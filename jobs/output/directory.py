"""The directory of finished parts.

    _manifest.json           what this output is of; written first
    part-00000017.parquet    vectors of one part; there whole or not at all
    _bad/part-00000017.jsonl rows of that part without a vector, written before it
    _bad_rows.jsonl          all of those, written when every part is there

Readers of Parquet directories pass over names that begin with an underscore. Each part names its manifest: a worker
that outlived its own job on another machine may still write here.
"""

import fcntl
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import JobError, UsageError
from jobs.input.rows import BadRow
from jobs.output.columns import TOKENS, TRUNCATED
from jobs.places import UNFINISHED, Place

MANIFEST, BAD, BAD_ROWS, LOCK = "_manifest.json", "_bad", "_bad_rows.jsonl", "_lock"
COUNTS, DIGEST = b"counts", b"manifest"  # of a part, in the metadata of its schema
FOOTERS = 16  # read at a time: object stores answer slowly and many at once
# Control characters that JSON leaves as they are, line ends of Unicode, and changes of direction.
_UNSEEN = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
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
    return f"part-{number:08d}.parquet"


def _digest(manifest: Any) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Output:
    """One job's results at one place."""

    place: Place
    digest: str = ""  # of the manifest; what has another is not ours

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of a local place, so that no other job writes there; others have no lock."""
        self.place.filesystem.create_dir((self.place / BAD).path, recursive=True)
        if not self.place.is_local:
            yield
            return
        with Path((self.place / LOCK).path).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobError(
                    f"{self.place.path} is being written by another job; wait for it"
                ) from None
            yield

    def bind(self, manifest: Mapping[str, Any]) -> "Output":
        """Make this the output of `manifest`, or see that it is.

        Raises UsageError when the place holds something else; the message names what differs.
        """
        self._sweep()  # first: a half-written manifest would count as a file of something else
        path = self.place / MANIFEST
        wanted = json.loads(json.dumps(manifest))
        found = json.loads(path.read()) if path.exists() else None
        if found is None and [info for info in self.place.files() if info.base_name != LOCK]:
            raise UsageError(
                f"{self.place.path} holds files of something else; give a directory of its own"
            )
        if found != wanted:
            if found is not None and self._numbers():
                _refuse(self.place.path, found, wanted)
            for info in (self.place / BAD).files():  # of a job that made no part
                (self.place / BAD / info.base_name).remove()
            path.write([json.dumps(wanted, indent=1, ensure_ascii=False).encode()])
        return Output(self.place, _digest(wanted))

    def _sweep(self) -> None:
        """Remove what killed writers left half-written."""
        for directory in (self.place, self.place / BAD):
            for info in directory.files():
                if info.base_name.startswith(UNFINISHED):
                    (directory / info.base_name).remove()

    def _numbers(self) -> list[int]:
        matches = (_PART.fullmatch(info.base_name) for info in self.place.files())
        return [int(match[1]) for match in matches if match]

    def done(self) -> set[int]:
        """Numbers of the parts that are there, readable and of this manifest."""
        numbers = self._numbers()
        with ThreadPoolExecutor(FOOTERS) as pool:
            return {
                number
                for number, counts in zip(numbers, pool.map(self._footer, numbers), strict=True)
                if counts
            }

    def counts(self, number: int) -> Counts | None:
        """Of a part that is there, readable and of this manifest; None otherwise."""
        return self._footer(number) if (self.place / part_name(number)).exists() else None

    def _footer(self, number: int) -> Counts | None:
        try:
            with self.place.filesystem.open_input_file(
                (self.place / part_name(number)).path
            ) as file:
                metadata = pq.read_schema(file).metadata or {}
        except (pa.ArrowInvalid, OSError):  # damaged, and so made again
            return None
        return (
            Counts(**json.loads(metadata[COUNTS]))
            if metadata.get(DIGEST) == self.digest.encode()
            else None
        )

    def write(self, number: int, table: pa.Table, bad: Sequence[BadRow]) -> Counts:
        """Write one part, its bad rows first: a part that is there is complete.

        Raises JobError when the output belongs to another job by now.
        """
        counts = _counts(table, bad)
        bad_rows = self.place / BAD / part_name(number).replace(".parquet", ".jsonl")
        sink = pa.BufferOutputStream()
        metadata = {COUNTS: json.dumps(asdict(counts)).encode(), DIGEST: self.digest.encode()}
        pq.write_table(
            table.replace_schema_metadata(metadata), sink, compression="zstd", use_dictionary=False
        )
        self._check_owner()
        if bad:
            bad_rows.write(map(_line, bad))
        else:
            bad_rows.remove()  # of an attempt that ended before its part
        (self.place / part_name(number)).write([sink.getvalue()])
        return counts

    def _check_owner(self) -> None:
        """Workers may outlive a killed driver, and its place may belong to another job by then."""
        manifest = self.place / MANIFEST
        if not manifest.exists() or _digest(json.loads(manifest.read())) != self.digest:
            raise JobError(f"{self.place.path} belongs to another job by now")

    def table(self, number: int) -> pa.Table:
        """A part that is there."""
        with self.place.filesystem.open_input_file((self.place / part_name(number)).path) as file:
            return pq.read_table(file)

    def finish(self, numbers: Iterable[int]) -> int:
        """See that all parts are there, and gather their bad rows in one file. Returns how many those are.

        Raises JobError when parts are missing.
        """
        if missing := sorted(set(numbers) - self.done()):
            raise JobError(
                f"{self.place.path} lacks {len(missing)} parts, {part_name(missing[0])} first: something else removes "
                "or writes files there; the same command makes them again"
            )
        self._sweep()
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


def _line(row: BadRow) -> bytes:
    """JSON that people can read; what a terminal or no UTF-8 takes is escaped."""
    shown = json.dumps(asdict(row), default=str, ensure_ascii=False)
    shown = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)
    return shown.encode("utf-8", "backslashreplace") + b"\n"


def _refuse(path: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> NoReturn:
    other = [name for name in wanted if found.get(name) != wanted[name]]
    raise UsageError(
        f"{path} holds a job with other {', '.join(other)}: repeat that job's command, or give another directory"
    )

"""The output directory: finished parts, the manifest and the bad rows.

    _manifest.json           what the output was made from; written first
    part-00000017.parquet    vectors of one part; written atomically
    _bad/part-00000017.jsonl bad rows of that part, written before it
    _bad_rows.jsonl          all bad rows, written when every part is finished

Readers of Parquet directories skip names that begin with an underscore. Each part has the hash of
its manifest, since a worker of an earlier job may still write here from another machine.
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
from jobs.location import UNFINISHED, Location
from jobs.output.columns import TOKENS, TRUNCATED

MANIFEST = "_manifest.json"
BAD = "_bad"
BAD_ROWS = "_bad_rows.jsonl"
LOCK = "_lock"
COUNTS, DIGEST = b"counts", b"manifest"  # keys in the metadata of a part's schema
FOOTERS = 16  # read at a time; object stores have a high latency and serve many requests at once
# Control characters that JSON does not escape, line ends of Unicode, and changes of direction.
_INVISIBLE = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_PART = re.compile(r"part-(\d+)\.parquet")


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of rows and tokens of a part."""

    texts: int  # that were embedded
    tokens: int
    truncated: int
    failed: int

    def __add__(self, other: "Counts") -> "Counts":
        ours = asdict(self)
        theirs = asdict(other)
        return Counts(**{name: ours[name] + theirs[name] for name in ours})


NO_COUNTS = Counts(0, 0, 0, 0)


def part_name(number: int) -> str:
    """File name of a numbered part."""
    return f"part-{number:08d}.parquet"


def _digest(manifest: Any) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class OutputDirectory:
    """The results of one job in one directory."""

    location: Location
    digest: str = ""  # SHA-256 of the manifest; parts with another belong to another job

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock a local directory, so that no other job writes there. Remote ones have no lock.

        Raises:
            JobError: another job holds the lock.
        """
        self.location.filesystem.create_dir((self.location / BAD).path, recursive=True)
        if not self.location.is_local:
            yield
            return
        with Path((self.location / LOCK).path).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobError(
                    f"{self.location.path} is being written by another job; wait for it"
                ) from None
            yield

    def bind(self, manifest: Mapping[str, Any]) -> "OutputDirectory":
        """Write the manifest, or check that the one that exists is the same.

        Raises:
            UsageError: the directory holds something else; the message names what differs.
        """
        self._sweep()  # first: an unfinished manifest would count as a foreign file
        path = self.location / MANIFEST
        wanted = json.loads(json.dumps(manifest))
        found = json.loads(path.read()) if path.exists() else None
        if found is None and [info for info in self.location.files() if info.base_name != LOCK]:
            raise UsageError(f"{self.location.path} holds other files; give an empty directory")
        if found != wanted:
            if found is not None and self._numbers():
                _refuse(self.location.path, found, wanted)
            for info in (self.location / BAD).files():  # of a job that finished no part
                (self.location / BAD / info.base_name).remove()
            path.write([json.dumps(wanted, indent=1, ensure_ascii=False).encode()])
        return OutputDirectory(self.location, _digest(wanted))

    def _sweep(self) -> None:
        """Remove unfinished files of killed writers."""
        for directory in (self.location, self.location / BAD):
            for info in directory.files():
                if info.base_name.startswith(UNFINISHED):
                    (directory / info.base_name).remove()

    def _numbers(self) -> list[int]:
        matches = (_PART.fullmatch(info.base_name) for info in self.location.files())
        return [int(match[1]) for match in matches if match]

    def done(self) -> set[int]:
        """The numbers of the finished parts of this manifest."""
        numbers = self._numbers()
        with ThreadPoolExecutor(FOOTERS) as pool:
            return {
                number
                for number, counts in zip(numbers, pool.map(self._footer, numbers), strict=True)
                if counts
            }

    def counts(self, number: int) -> Counts | None:
        """The counts of a finished part of this manifest; None when there is none."""
        return self._footer(number) if (self.location / part_name(number)).exists() else None

    def _footer(self, number: int) -> Counts | None:
        try:
            with self.location.filesystem.open_input_file(
                (self.location / part_name(number)).path
            ) as file:
                metadata = pq.read_schema(file).metadata or {}
        except (pa.ArrowInvalid, OSError):  # damaged: it is embedded again
            return None
        return (
            Counts(**json.loads(metadata[COUNTS]))
            if metadata.get(DIGEST) == self.digest.encode()
            else None
        )

    def write(self, number: int, table: pa.Table, bad: Sequence[BadRow]) -> Counts:
        """Write one part, its bad rows first, so that an existing part is complete.

        Raises:
            JobError: the directory now belongs to another job.
        """
        counts = _counts(table, bad)
        bad_rows = self.location / BAD / part_name(number).replace(".parquet", ".jsonl")
        sink = pa.BufferOutputStream()
        metadata = {COUNTS: json.dumps(asdict(counts)).encode(), DIGEST: self.digest.encode()}
        pq.write_table(
            table.replace_schema_metadata(metadata), sink, compression="zstd", use_dictionary=False
        )
        self._check_owner()
        if bad:
            bad_rows.write(map(_line, bad))
        else:
            bad_rows.remove()  # of an attempt that did not finish the part
        (self.location / part_name(number)).write([sink.getvalue()])
        return counts

    def _check_owner(self) -> None:
        """Workers may outlive a killed driver, whose directory may then belong to another job."""
        manifest = self.location / MANIFEST
        if not manifest.exists() or _digest(json.loads(manifest.read())) != self.digest:
            raise JobError(f"{self.location.path} now belongs to another job")

    def table(self, number: int) -> pa.Table:
        """Read a finished part."""
        with self.location.filesystem.open_input_file(
            (self.location / part_name(number)).path
        ) as file:
            return pq.read_table(file)

    def finish(self, numbers: Iterable[int]) -> int:
        """Check that all parts exist, and collect their bad rows in one file.

        Returns:
            The number of bad rows.

        Raises:
            JobError: parts are missing.
        """
        if missing := sorted(set(numbers) - self.done()):
            raise JobError(
                f"{self.location.path} lacks {len(missing)} parts, {part_name(missing[0])} first: "
                "another program removes or writes files there; the same command embeds them again"
            )
        self._sweep()
        count = 0

        def gathered() -> Iterator[bytes]:
            nonlocal count
            for info in (self.location / BAD).files():
                rows = (self.location / BAD / info.base_name).read()
                count += rows.count(b"\n")
                yield rows

        (self.location / BAD_ROWS).write(gathered())
        return count


def _counts(table: pa.Table, bad: Sequence[BadRow]) -> Counts:
    tokens, truncated = (sum(table.column(name).to_pylist()) for name in (TOKENS, TRUNCATED))
    return Counts(table.num_rows, tokens, truncated, len(bad))


def _line(row: BadRow) -> bytes:
    """A bad row as JSON; characters that a terminal would interpret, or not UTF-8, are escaped."""
    shown = json.dumps(asdict(row), default=str, ensure_ascii=False)
    shown = _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)
    return shown.encode("utf-8", "backslashreplace") + b"\n"


def _refuse(path: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> NoReturn:
    other = [name for name in wanted if found.get(name) != wanted[name]]
    raise UsageError(
        f"{path} holds a job with other {', '.join(other)}: "
        "repeat the command of that job, or give another directory"
    )

"""One job: what is read, what is wanted of it, and where it goes. Workers get it whole."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from embedder.tasks import prompts_for
from jobs.errors import UsageError
from jobs.input.files import InputFile, find_files, with_dialects
from jobs.input.parts import Part, cut
from jobs.input.rows import Columns
from jobs.input.schema import types_of
from jobs.output.columns import OUTPUT_TYPES
from jobs.output.directory import Output
from jobs.places import Place, locate

if TYPE_CHECKING:  # who has only the URL of a service has none of what it imports
    from embedder.profile import Profile

# Rows of a part: one or two seconds of the starter model on one core, longer with a larger model. A killed
# worker loses that much work, and the progress bar moves in such steps.
PART_ROWS = 256


@dataclass(frozen=True, slots=True)
class Wanted:
    """How texts are read and how vectors are stored."""

    task: str | None
    dimensions: int | None
    output_type: str
    truncate: bool


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides what is written."""

    source: Place
    files: tuple[InputFile, ...]
    columns: Columns
    types: Mapping[str, Any]  # pyarrow.DataType by column
    wanted: Wanted
    part_rows: int
    output: Output

    def parts(self) -> list[Part]:
        """All of them, in the order of the input."""
        names = self.columns.names
        return list(cut(self.source, self.files, names, part_rows=self.part_rows))

    def bound(self, space: Mapping[str, Any]) -> "Job":
        """This job, its output made that of this job in the vector space `space`. Raises UsageError."""
        return replace(self, output=self.output.bind(self.manifest(space)))

    def manifest(self, space: Mapping[str, Any]) -> dict[str, Any]:
        """What makes this output this output; `space` names the vector space."""
        return {
            "input": [asdict(file) for file in self.files],
            "columns": asdict(self.columns),
            **asdict(self.wanted),
            "part_rows": self.part_rows,
            **space,
        }


def add_arguments(parser: argparse.ArgumentParser, *, part_rows: int = PART_ROWS) -> None:
    """What both commands take."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a .parquet, .jsonl, .csv or .txt file, or a directory of them",
    )
    parser.add_argument("output", metavar="OUTPUT", help="a directory; local or a URL, as INPUT")
    parser.add_argument(
        "--text", default="text", metavar="COLUMN", help="what is embedded (default: text)"
    )
    parser.add_argument(
        "--id", metavar="COLUMN", help="kept with each vector; rows are numbered in any case"
    )
    parser.add_argument("--title", metavar="COLUMN", help="titles of documents")
    parser.add_argument("--task", metavar="NAME", help="of all texts: query, document, ...")
    parser.add_argument("--task-column", metavar="COLUMN", help="a task for each text instead")
    parser.add_argument(
        "--keep", default="", metavar="COLUMN,...", help="columns to copy beside the vectors"
    )
    parser.add_argument(
        "--encoding", metavar="NAME", help="of text files (default: UTF-8, UTF-16 if marked)"
    )
    parser.add_argument(
        "--delimiter", metavar="CHARACTER", help="of CSV files (default: found in the header)"
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="follow symbolic links in INPUT"
    )
    parser.add_argument("--dimensions", type=int, help="cut vectors to this size")
    parser.add_argument("--output-type", choices=sorted(OUTPUT_TYPES), default="float32")
    parser.add_argument(
        "--no-truncate", dest="truncate", action="store_false", help="long texts are bad rows"
    )
    parser.add_argument(
        "--part-rows", type=int, default=part_rows, help=f"rows of a file (default: {part_rows})"
    )
    parser.add_argument(
        "--price-per-month",
        type=float,
        metavar="P",
        help="of the machines; for the cost at the end",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")


def make_job(options: argparse.Namespace) -> Job:
    """Look at the input and see that it has what was asked for.

    Raises UsageError when it has not.
    """
    if options.task and options.task_column:
        raise UsageError("--task and --task-column exclude each other")
    if options.part_rows < 1:
        raise UsageError("--part-rows should be 1 or more")
    source, found = find_files(options.input, follow_links=options.follow_links)
    output = locate(options.output)
    if output.is_in(source):
        raise UsageError(
            "OUTPUT lies in INPUT, and would be read the next time; give it a place of its own"
        )
    keep = tuple(name for name in options.keep.split(",") if name)
    columns = Columns(options.text, options.id, options.title, options.task_column, keep)
    files = with_dialects(
        source,
        found,
        columns.names,
        encoding=options.encoding,
        delimiter=options.delimiter,
    )
    return Job(
        source=source,
        files=tuple(files),
        columns=columns,
        types=types_of(source, files, columns),
        wanted=Wanted(options.task, options.dimensions, options.output_type, options.truncate),
        part_rows=options.part_rows,
        output=Output(output),
    )


def check_wanted(job: Job, profile: "Profile") -> None:
    """See that the model has the task, a place for titles and the size.

    Raises OptionError. Tasks of a column are seen row by row.
    """
    if job.columns.task is None:
        prompts_for(
            profile.tasks,
            job.wanted.task,
            titles=["title"] if job.columns.title else None,
            n_texts=1,
        )
    check_packing(job.wanted, profile.size_of(job.wanted.dimensions))


def check_packing(wanted: Wanted, size: int) -> int:
    """`size`. Raises UsageError when vectors of it do not fill whole numbers of the output type."""
    if size % OUTPUT_TYPES[wanted.output_type].per_number:
        raise UsageError(f"{size} dimensions cannot be packed into bytes")
    return size

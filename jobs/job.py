"""One job: its input, its options and its output. It can be pickled, for workers."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from embedder.overflow import ERROR, OVERFLOWS, TRUNCATE, Overflow
from embedder.tasks import prompts_for
from jobs.errors import UsageError
from jobs.input.files import InputFile, find_files, with_text_formats
from jobs.input.parts import Part, split
from jobs.input.rows import Columns
from jobs.input.schema import types_of
from jobs.location import Location, locate
from jobs.output.columns import OUTPUT_TYPES
from jobs.output.directory import OutputDirectory

if TYPE_CHECKING:  # jobs over HTTP run without the packages that this imports
    from embedder.profile import Profile

# Rows of a part: one or two seconds of the starter model on one core, longer with a larger model.
# A killed worker loses at most this work, and the progress bar moves in these steps.
PART_ROWS = 256


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How texts are embedded and how vectors are stored."""

    task: str | None
    dimensions: int | None
    output_type: str
    overflow: Overflow


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that determines what is written."""

    source: Location
    files: tuple[InputFile, ...]
    columns: Columns
    types: Mapping[str, Any]  # pyarrow.DataType by column
    options: EmbedOptions
    part_rows: int
    output: OutputDirectory

    def parts(self) -> list[Part]:
        """All parts, in the order of the input."""
        names = self.columns.names
        return list(split(self.source, self.files, names, part_rows=self.part_rows))

    def bound(self, space: Mapping[str, Any]) -> "Job":
        """This job with its output directory reserved for it and the vector space `space`.

        Raises:
            UsageError: the directory holds something else.
        """
        return replace(self, output=self.output.bind(self.manifest(space)))

    def manifest(self, space: Mapping[str, Any]) -> dict[str, Any]:
        """What identifies an output: a job with another manifest may not write to it."""
        return {
            "input": [asdict(file) for file in self.files],
            "columns": asdict(self.columns),
            **asdict(self.options),
            "part_rows": self.part_rows,
            **space,
        }


def add_arguments(parser: argparse.ArgumentParser, *, part_rows: int = PART_ROWS) -> None:
    """Add the arguments that both commands share."""
    _add_input_arguments(parser)
    _add_output_arguments(parser, part_rows=part_rows)


def _add_input_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a .parquet, .jsonl, .csv or .txt file, or a directory of them",
    )
    parser.add_argument("output", metavar="OUTPUT", help="a directory; local or a URL, as INPUT")
    parser.add_argument(
        "--text", default="text", metavar="COLUMN", help="the texts to embed (default: text)"
    )
    parser.add_argument(
        "--id", metavar="COLUMN", help="stored with each vector, as the row number always is"
    )
    parser.add_argument("--title", metavar="COLUMN", help="titles of documents")
    parser.add_argument("--task", metavar="NAME", help="of every text: query, document, ...")
    parser.add_argument("--task-column", metavar="COLUMN", help="a task per text instead")
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


def _add_output_arguments(parser: argparse.ArgumentParser, *, part_rows: int) -> None:
    parser.add_argument("--dimensions", type=int, help="cut vectors to this size")
    parser.add_argument("--output-type", choices=sorted(OUTPUT_TYPES), default="float32")
    add_overflow(parser)
    parser.add_argument(
        "--part-rows",
        type=int,
        default=part_rows,
        help=f"rows per output file (default: {part_rows})",
    )
    parser.add_argument(
        "--price-per-month",
        type=float,
        metavar="P",
        help="price of the machines, for the cost in the summary",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_overflow(parser: argparse.ArgumentParser) -> None:
    """Add what is done with texts over the model's limit."""
    long_texts = parser.add_mutually_exclusive_group()
    long_texts.add_argument(
        "--overflow",
        choices=OVERFLOWS,
        default=TRUNCATE,
        help="of texts over the model's limit: cut them (default), report them, or average the "
        "vectors of their windows",
    )
    long_texts.add_argument(
        "--no-truncate",
        dest="overflow",
        action="store_const",
        const=ERROR,
        help=f"the same as --overflow {ERROR}",
    )


def make_job(options: argparse.Namespace) -> Job:
    """Inspect the input and check that it has the columns that the options name.

    Raises:
        UsageError: an option, a file or a column is wrong.
    """
    if options.task and options.task_column:
        raise UsageError("--task and --task-column exclude each other")
    if options.part_rows < 1:
        raise UsageError("--part-rows should be 1 or more")
    source, found = find_files(options.input, follow_links=options.follow_links)
    output = locate(options.output)
    if output.is_in(source):
        raise UsageError(
            "OUTPUT is inside INPUT, and would be read by the next run: give a directory elsewhere"
        )
    keep = tuple(name for name in options.keep.split(",") if name)
    columns = Columns(options.text, options.id, options.title, options.task_column, keep)
    files = with_text_formats(
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
        options=EmbedOptions(
            options.task, options.dimensions, options.output_type, options.overflow
        ),
        part_rows=options.part_rows,
        output=OutputDirectory(output),
    )


def check_supported(job: Job, profile: "Profile") -> None:
    """Check that the model supports the task, the titles and the dimensions.

    Tasks in a column are checked row by row.

    Raises:
        OptionError: the model does not support one of them.
        UsageError: the dimensions do not fit the output type.
    """
    if job.columns.task is None:
        prompts_for(
            profile.tasks,
            job.options.task,
            titles=["title"] if job.columns.title else None,
            n_texts=1,
        )
    check_packing(job.options, profile.size_of(job.options.dimensions))


def check_packing(options: EmbedOptions, size: int) -> int:
    """Return `size`. Raises UsageError when it is no multiple of 8 and vectors are bits."""
    if size % OUTPUT_TYPES[options.output_type].per_number:
        raise UsageError(f"{size} dimensions cannot be packed into bytes")
    return size

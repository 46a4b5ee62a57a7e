"""The records of a part, in any format. A record that cannot be read is a RowError."""

import csv
import json
from collections.abc import Iterator, Sequence

from jobs.errors import JobError, RowError, one_line
from jobs.input import splitting
from jobs.input.files import TEXT_COLUMN, InputFile
from jobs.input.parquet_records import ParquetRecordReader
from jobs.input.parts import Part
from jobs.input.record import TOO_LONG, Record, Records
from jobs.input.text_format import CsvHeader, csv_header, parse_csv
from jobs.location import Location


class RecordReader:
    """Reads parts of any format as records with the columns `names`."""

    def __init__(self, location: Location, names: Sequence[str]) -> None:
        self._location = location
        self._header: tuple[str, CsvHeader] | None = None  # of the file that was read last
        parquet = ParquetRecordReader(location, names)
        self._readers = {
            "parquet": parquet.read,
            "jsonl": self._jsonl,
            "csv": self._csv,
            "text": self._text,
        }

    def read(self, part: Part) -> Records:
        """One record or error per row, in order."""
        return self._readers[part.file.format](part)

    def _jsonl(self, part: Part) -> Records:
        for line in self._lines(part):
            yield line if isinstance(line, RowError) else _object(line)

    def _text(self, part: Part) -> Records:
        for line in self._lines(part):
            yield line if isinstance(line, RowError) else {TEXT_COLUMN: line}

    def _csv(self, part: Part) -> Records:
        names = self._csv_header(part.file).names
        delimiter = part.file.text_format.delimiter
        for offset, text in enumerate(self._texts(part, quotes=True)):
            if isinstance(text, RowError):
                yield text
                continue
            [fields] = _csv_records(text, delimiter, part, offset)
            if len(fields) == len(names):
                yield dict(zip(names, fields, strict=True))
            else:
                yield RowError(f"{len(fields)} fields where the header has {len(names)}")

    def _csv_header(self, file: InputFile) -> CsvHeader:
        if self._header is None or self._header[0] != file.path:
            self._header = file.path, csv_header(self._location, file.path, file.text_format)
        return self._header[1]

    def _lines(self, part: Part) -> Iterator[str | RowError]:
        for text in self._texts(part, quotes=False):
            yield text if isinstance(text, RowError) else text.removesuffix("\n").removesuffix("\r")

    def _texts(self, part: Part, *, quotes: bool) -> Iterator[str | RowError]:
        text_format = part.file.text_format
        with self._location.filesystem.open_input_file(part.path) as stream:
            span = splitting.records(
                stream, part.start, part.stop, quotes=quotes, unit=text_format.unit
            )
            for record in span:
                try:
                    yield RowError(TOO_LONG) if record is None else text_format.decode(record)
                except UnicodeDecodeError:
                    yield RowError(f"the row is not valid {text_format.encoding.upper()}")


def _object(line: str) -> Record | RowError:
    try:
        record = json.loads(line)
    except ValueError as error:
        if not line.strip():
            return RowError("the line is empty")
        return RowError(f"not JSON: {one_line(error)}")
    except RecursionError:
        return RowError("not JSON that can be read: it is nested too deeply")
    return record if isinstance(record, dict) else RowError("not a JSON object")


def _csv_records(text: str, delimiter: str, part: Part, offset: int) -> list[list[str]]:
    """The only record of `text`. Raises JobError when it parses as another number of records."""
    where = f"{part.path} is not CSV in row {part.file_row + offset}"
    try:
        records = parse_csv(text, delimiter)
    except csv.Error as error:
        raise JobError(f"{where}: {one_line(error)}") from error
    if len(records) != 1:
        raise JobError(
            f"{where}: it reads as {len(records)} rows, since an unquoted field has a quote "
            '(write it as "5"" pipe", RFC 4180)'
        )
    return records

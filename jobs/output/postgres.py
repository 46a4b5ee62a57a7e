"""Load finished parts into a table with pgvector's types. Loading is idempotent: one row per id."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from jobs import not_installed
from jobs.errors import UsageError
from jobs.input.parts import Part
from jobs.input.rows import RowReader
from jobs.output.columns import EMBEDDING, ID, ROW
from jobs.output.database import Database
from jobs.output.directory import OutputDirectory
from jobs.output.sequences import advance, sequences_of

try:
    import psycopg
    from psycopg import sql
except ImportError as error:
    not_installed(error.name)

TEXT, FINGERPRINT, BITS = "text", "fingerprint", "bits"
# pgvector has no 8-bit integers; 16-bit floats hold them exactly.
NUMBERS, BINARY = ("vector", "halfvec"), ("bit",)
_KIND = re.compile(r"(?:.+\.)?(vector|halfvec|bit)(?:\((\d+)\))?")  # may have a schema before it
# The only character that PostgreSQL's text cannot hold, and its replacement.
NUL, REPLACEMENT = "\0", "\ufffd"
STAGING = sql.Identifier("embedding_api_staging")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with the columns `id` (unique), `embedding` and the kept columns.

    A column `fingerprint` gets the fingerprint of the vector space, and if there is one, a column
    `text` gets the texts: a search needs both.
    """

    database: Database
    name: str
    id_type: Any  # pyarrow.DataType
    kept: Mapping[str, Any]  # pyarrow.DataType by column
    dimensions: int
    output_type: str
    fingerprint: str

    def prepare(self) -> None:
        """Create the table if it does not exist, and check that it can take the rows.

        Called before the work, which may take hours.

        Raises:
            UsageError: the table cannot take the rows.
        """
        for name, kind in {ID: self.id_type, **self.kept}.items():
            if pa.types.is_nested(kind):
                raise UsageError(
                    f"column {name!r} is {kind}: --table takes numbers, dates, bytes and text"
                )
        with self._connection() as connection, connection.transaction():
            if not self._columns_there(connection):
                self._create(connection)
            self._check_kind(connection)
            columns = self._columns(connection)
            self._check_space(connection, columns)
            nothing = sql.SQL("SELECT {} FROM {} WHERE false").format(
                _names(columns), self._identifier
            )
            # Planning fails for a missing column, type or constraint.
            connection.execute(sql.SQL("EXPLAIN {}").format(self._insert(columns, nothing)))

    def load(
        self, output: OutputDirectory, parts: Sequence[Part], reader: RowReader
    ) -> Iterator[int]:
        """Load parts in the order given, each in one transaction.

        An existing id gets its new vector. If an id occurs more than once, the last row wins.

        Args:
            output: where the parts are.
            parts: those to load.
            reader: reads the texts from the input.

        Yields:
            The number of rows of each part.
        """
        with self._connection() as connection:
            columns = self._columns(connection)
            sequences = sequences_of(connection, self._written, columns)
            for part in parts:
                texts = _texts(reader, part) if TEXT in columns and TEXT not in self.kept else {}
                rows = dict(self._rows(output.table(part.number), columns, texts))
                for sequence in sequences:
                    place = columns.index(sequence.column)
                    advance(connection, sequence, [row[place] for row in rows.values()])
                with connection.transaction():
                    self._put(connection, columns, rows)
                yield len(rows)

    def _put(
        self,
        connection: psycopg.Connection,
        columns: Sequence[str],
        rows: Mapping[Any, Sequence[Any]],
    ) -> None:
        names = _names(columns)
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WHERE false").format(
                STAGING, names, self._identifier
            )
        )
        copy_in = sql.SQL("COPY {} ({}) FROM STDIN").format(STAGING, names)
        with connection.cursor() as cursor, cursor.copy(copy_in) as copy:
            for row in rows.values():
                copy.write_row(row)
        staged = sql.SQL("SELECT {} FROM {}").format(names, STAGING)
        connection.execute(self._insert(columns, staged))

    def _insert(self, columns: Sequence[str], select: sql.Composed) -> sql.Composed:
        names = [sql.Identifier(name) for name in columns if name != ID]
        updates = [sql.SQL("{0} = excluded.{0}").format(name) for name in names]
        # An unchanged row is not written again, which would leave a dead copy of it and of its
        # index entries. Compared as text, since not every type has an equality operator.
        differs = [
            sql.SQL("there.{0}::text IS DISTINCT FROM excluded.{0}::text").format(name)
            for name in names
        ]
        # Ids come from the input, also when the column generates its own.
        return sql.SQL(
            "INSERT INTO {} AS there ({}) OVERRIDING SYSTEM VALUE {} "
            "ON CONFLICT ({}) DO UPDATE SET {} WHERE {}"
        ).format(
            self._identifier,
            _names(columns),
            select,
            sql.Identifier(ID),
            sql.SQL(", ").join(updates),
            sql.SQL(" OR ").join(differs),
        )

    def _rows(
        self, table: pa.Table, columns: Sequence[str], texts: Mapping[int, str]
    ) -> Iterator[tuple[Any, Sequence[Any]]]:
        """Each row's id, and its values in the order of `columns`."""
        numbers = table.column(ROW).to_pylist()
        values: dict[str, Sequence[Any]] = {
            FINGERPRINT: [self.fingerprint] * len(numbers),
            TEXT: [texts.get(number) for number in numbers],
        }
        values |= {name: table.column(name).to_pylist() for name in self.kept}
        values[ID] = table.column(ID).to_pylist() if ID in table.column_names else numbers
        values[EMBEDDING] = [*self._vectors(table)]
        for row in zip(*(values[name] for name in columns), strict=True):
            stored = [_storable(value) for value in row]
            yield stored[0], stored

    def _vectors(self, table: pa.Table) -> Iterator[str]:
        """Each vector as PostgreSQL parses it, with the shortest digits that round-trip."""
        column = table.column(EMBEDDING).combine_chunks()
        numbers = column.flatten().to_numpy(zero_copy_only=False)
        values = numbers.reshape(len(column), column.type.list_size)
        if self.output_type == "binary":
            return ("".join(map(str, row)) for row in np.unpackbits(values, axis=1))
        return (
            orjson.dumps(
                row.tolist() if row.dtype == np.float16 else row, option=orjson.OPT_SERIALIZE_NUMPY
            ).decode()
            for row in values
        )

    def _create(self, connection: psycopg.Connection) -> None:
        """Create a table for searching. Without row-level security Supabase makes it public."""
        binary = self.output_type == "binary"
        if not binary:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        size = sql.Literal(self.dimensions)
        kind = sql.SQL("bit({})" if binary else "halfvec({})").format(size)
        bits = sql.SQL(
            ", {0} bit({1}) GENERATED ALWAYS AS (binary_quantize({2})::bit({1})) STORED"
        ).format(sql.Identifier(BITS), size, sql.Identifier(EMBEDDING))
        others = [name for name in (TEXT, FINGERPRINT) if name not in self.kept]
        columns = [sql.SQL(", {} text NOT NULL").format(sql.Identifier(name)) for name in others]
        columns += [sql.SQL(", {} text").format(sql.Identifier(name)) for name in self.kept]
        statements = [
            sql.SQL("CREATE TABLE {} ({} {} PRIMARY KEY, {} {} NOT NULL{}{})").format(
                self._identifier,
                sql.Identifier(ID),
                sql.SQL("bigint" if pa.types.is_integer(self.id_type) else "text"),
                sql.Identifier(EMBEDDING),
                kind,
                sql.SQL("") if binary else bits,
                sql.Composed(columns),
            ),
            sql.SQL("CREATE INDEX ON {} USING hnsw ({} bit_hamming_ops)").format(
                self._identifier, sql.Identifier(EMBEDDING if binary else BITS)
            ),
            sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(self._identifier),
        ]
        for statement in statements:
            connection.execute(statement)

    def _columns_there(self, connection: psycopg.Connection) -> dict[str, str]:
        """The type of each column that can be written; empty if the table does not exist."""
        found = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped "
            "AND attgenerated = ''",
            [self._written],
        )
        return dict(found.fetchall())

    def _columns(self, connection: psycopg.Connection) -> list[str]:
        """The columns that are loaded, the id first."""
        there = self._columns_there(connection)
        searched = [name for name in (TEXT, FINGERPRINT) if FINGERPRINT in there and name in there]
        return [ID, EMBEDDING, *dict.fromkeys((*self.kept, *searched))]

    def _check_kind(self, connection: psycopg.Connection) -> None:
        found = self._columns_there(connection).get(EMBEDDING)
        if found is None:
            return  # planning the insert fails with a message
        kind = _KIND.fullmatch(found)
        wanted = BINARY if self.output_type == "binary" else NUMBERS
        if not kind or kind[1] not in wanted:
            raise UsageError(
                f"{self.name}.{EMBEDDING} is {found}, and {self.output_type} vectors need "
                f"{' or '.join(wanted)}: give another --table or --output-type"
            )
        if kind[2] and int(kind[2]) != self.dimensions:
            raise UsageError(
                f"{self.name}.{EMBEDDING} is {found}, and vectors have {self.dimensions} "
                "dimensions: give another --table, or drop this one"
            )

    def _check_space(self, connection: psycopg.Connection, columns: Sequence[str]) -> None:
        """Refuse a table that holds vectors of another model."""
        if FINGERPRINT not in columns or FINGERPRINT in self.kept:
            return
        first = sql.SQL("SELECT {} FROM {} LIMIT 1").format(
            sql.Identifier(FINGERPRINT), self._identifier
        )
        found = connection.execute(first).fetchone()
        if found and found[0] != self.fingerprint:
            raise UsageError(
                f"{self.name} holds vectors of another model (fingerprint {found[0]}, not "
                f"{self.fingerprint}): give another --table, or empty this one"
            )

    def _connection(self) -> Any:
        return self.database.connection(f"table {self.name} cannot take these rows")

    @property
    def _identifier(self) -> sql.Identifier:
        return sql.Identifier(*self.name.split("."))

    @property
    def _written(self) -> str:
        """The name as an SQL identifier."""
        return self._identifier.as_string()


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _texts(reader: RowReader, part: Part) -> dict[int, str]:
    """The texts of a part by row number; finished parts do not hold them."""
    return {row.number: row.text for row in reader.read(part)[0]}


def _storable(value: Any) -> Any:
    return value.replace(NUL, REPLACEMENT) if isinstance(value, str) and NUL in value else value

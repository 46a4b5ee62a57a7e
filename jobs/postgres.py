"""Finished parts into a table with pgvector's types: as often as you like, each id once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from jobs import not_installed
from jobs.columns import EMBEDDING, ID, ROW
from jobs.errors import JobError, UsageError, one_line
from jobs.output import Output

try:
    import psycopg
    from psycopg import sql
except ImportError as error:
    not_installed(error.name)

# pgvector has no 8-bit integers; 16-bit floats hold them exactly.
VECTOR_TYPES = {"float32": "vector", "float16": "halfvec", "int8": "halfvec", "binary": "bit"}
_KIND = re.compile(r"(?:.+\.)?(vector|halfvec|bit)(?:\((\d+)\))?")  # may stand behind a schema
NUL, REPLACEMENT = (
    "\0",
    "\ufffd",
)  # the one character that PostgreSQL's text cannot hold, and what stands for it


@dataclass(frozen=True, slots=True)
class Table:
    """Where vectors go: columns `id` (unique), `embedding` and those kept."""

    url: str
    name: str
    id_type: Any  # pyarrow.DataType
    kept: Mapping[str, Any]  # pyarrow.DataType by column
    dimensions: int
    output_type: str

    @property
    def columns(self) -> list[str]:
        return [ID, EMBEDDING, *self.kept]

    def prepare(self) -> None:
        """Make the table if it is not there, and see that rows could be put into it.

        Raises UsageError before hours of work, not after them.
        """
        for name, kind in {ID: self.id_type, **self.kept}.items():
            if pa.types.is_nested(kind):
                raise UsageError(
                    f"column {name!r} is {kind}: --table takes numbers, dates, bytes and text"
                )
        with self._connection() as connection:
            found = connection.execute(
                "SELECT to_regclass(%s)", [self._identifier.as_string()]
            ).fetchone()
            if found is None or found[0] is None:
                self._create(connection)
            self._check_kind(connection)
            nothing = sql.SQL("SELECT {} FROM {} WHERE false").format(
                self._column_list, self._identifier
            )
            connection.execute(
                sql.SQL("EXPLAIN {}").format(self._insert(nothing))
            )  # planning finds what is missing

    def load(self, output: Output, numbers: Sequence[int]) -> Iterator[int]:
        """Put parts in, in the order given, each in one transaction; yields the rows of each.

        An id that is there already gets its new vector; of one that comes twice the last counts.
        """
        with self._connection() as connection:
            for number in numbers:
                rows = dict(self._rows(output.table(number)))
                with connection.transaction():
                    self._put(connection, rows)
                yield len(rows)

    def _put(self, connection: psycopg.Connection, rows: Mapping[Any, Sequence[Any]]) -> None:
        staging = sql.Identifier("embedding_api_staging")
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WHERE false").format(
                staging, self._column_list, self._identifier
            )
        )
        copy_in = sql.SQL("COPY {} ({}) FROM STDIN").format(staging, self._column_list)
        with connection.cursor() as cursor, cursor.copy(copy_in) as copy:
            for row in rows.values():
                copy.write_row(row)
        connection.execute(
            self._insert(sql.SQL("SELECT {} FROM {}").format(self._column_list, staging))
        )

    def _insert(self, select: sql.Composed) -> sql.Composed:
        names = [sql.Identifier(name) for name in self.columns[1:]]
        updates = [sql.SQL("{0} = excluded.{0}").format(name) for name in names]
        # A row that says the same already is not written again: a dead copy of it and of its index entries would stay.
        # As text, since not every type that a column may have can be compared.
        differs = [
            sql.SQL("there.{0}::text IS DISTINCT FROM excluded.{0}::text").format(name)
            for name in names
        ]
        # Ids are the input's, also where the table would give its own.
        return sql.SQL(
            "INSERT INTO {} AS there ({}) OVERRIDING SYSTEM VALUE {} ON CONFLICT ({}) DO UPDATE SET {} WHERE {}"
        ).format(
            self._identifier, self._column_list, select, sql.Identifier(ID), sql.SQL(", ").join(updates),
            sql.SQL(" OR ").join(differs),
        )  # fmt: skip

    def _rows(self, table: pa.Table) -> Iterator[tuple[Any, Sequence[Any]]]:
        ids = map(_storable, table.column(ID if ID in table.column_names else ROW).to_pylist())
        others = [map(_storable, table.column(name).to_pylist()) for name in self.kept]
        for given, vector, *kept in zip(ids, self._written(table), *others, strict=True):
            yield given, [given, vector, *kept]

    def _written(self, table: pa.Table) -> Iterator[str]:
        """Each vector as PostgreSQL reads it: the shortest digits that give the same float back."""
        column = table.column(EMBEDDING).combine_chunks()
        values = (
            column.flatten()
            .to_numpy(zero_copy_only=False)
            .reshape(len(column), column.type.list_size)
        )
        if self.output_type == "binary":
            return ("".join(map(str, row)) for row in np.unpackbits(values, axis=1))
        return (
            orjson.dumps(row.tolist() if row.dtype == np.float16 else row, option=_NUMPY).decode()
            for row in values
        )

    def _create(self, connection: psycopg.Connection) -> None:
        if self.output_type != "binary":
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        id_type = "bigint" if pa.types.is_integer(self.id_type) else "text"
        kind = f"{VECTOR_TYPES[self.output_type]}({self.dimensions})"
        kept = [sql.SQL(", {} text").format(sql.Identifier(name)) for name in self.kept]
        connection.execute(
            sql.SQL("CREATE TABLE {} ({} {} PRIMARY KEY, {} {} NOT NULL{})").format(
                self._identifier, sql.Identifier(ID), sql.SQL(id_type), sql.Identifier(EMBEDDING), sql.SQL(kind),
                sql.Composed(kept),
            )
        )  # fmt: skip

    def _check_kind(self, connection: psycopg.Connection) -> None:
        found = connection.execute(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(%s) "
            "AND attname = %s",
            [self._identifier.as_string(), EMBEDDING],
        ).fetchone()
        if not found:
            return  # the plan will say so
        kind = _KIND.fullmatch(found[0])
        if not kind or (kind[1] == "bit") != (self.output_type == "binary"):
            wanted = VECTOR_TYPES[self.output_type]
            raise UsageError(
                f"{self.name}.{EMBEDDING} is {found[0]}, and {self.output_type} vectors want {wanted}"
            )
        if kind[2] and int(kind[2]) != self.dimensions:
            raise UsageError(
                f"{self.name}.{EMBEDDING} is {found[0]}, and vectors have {self.dimensions} dimensions"
            )

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        try:
            with psycopg.connect(
                self.url, application_name="embedding-api", connect_timeout=10
            ) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise JobError(f"PostgreSQL: {one_line(error)}; the same command goes on") from error
        except psycopg.Error as error:
            raise UsageError(
                f"table {self.name} cannot take these rows: {one_line(error)}"
            ) from error

    @property
    def _identifier(self) -> sql.Identifier:
        return sql.Identifier(*self.name.split("."))

    @property
    def _column_list(self) -> sql.Composable:
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


def _storable(value: Any) -> Any:
    return value.replace(NUL, REPLACEMENT) if isinstance(value, str) and NUL in value else value


_NUMPY = orjson.OPT_SERIALIZE_NUMPY

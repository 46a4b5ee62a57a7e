"""One filled column, and the parts of SQL statements that name what belongs to it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from jobs.table import catalog
from jobs.table.source import Source

LONGEST_NAME = 63  # bytes of an identifier; PostgreSQL cuts the rest
MIB = 1024 * 1024
NO_MODEL = sql.Literal(None)


@dataclass(frozen=True, slots=True)
class Column:
    """What is filled, from what, and how its rows are found.

    `name` never changes, though a table may be renamed.
    """

    name: str
    table: catalog.Table
    embedding: str
    source: Source
    kind: str  # vector or halfvec
    dimensions: int
    search: str  # name of the search function, in the table's schema
    made: bool  # by the set-up, with its columns
    fingerprint: str | None = None
    task: str | None = None  # for requests to the service; the worker knows its own model

    @property
    def hash(self) -> str:
        return f"{self.embedding}_hash"

    @property
    def model(self) -> str:
        """The column that names the model of each vector."""
        return f"{self.embedding}_fingerprint"

    @property
    def own(self) -> list[str]:
        """The columns that the worker writes."""
        return [self.embedding, self.hash, self.model]

    @property
    def digest(self) -> str:
        """Ends the names of what belongs to the column alone."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]

    @property
    def trigger(self) -> str:
        """Of the trigger and its function. Triggers run in the order of their names: this late."""
        return f"zz_embedding_{self.digest}"

    @property
    def index(self) -> str:
        name = f"{self.table.name}_{self.embedding}_hnsw".encode()
        return name[:LONGEST_NAME].decode(errors="ignore")

    def parts(
        self, pgvector: catalog.Pgvector, model: sql.Composable = NO_MODEL
    ) -> Mapping[str, sql.Composable]:
        """What the files in `sql/` leave open of this column.

        Args:
            pgvector: of the database.
            model: the fingerprint of the model that embeds; the set-up has none.
        """
        keys = self.table.keys
        row = [_field("t", key) for key in keys]
        stored = [self._stored(key) for key in keys]
        aliases = [sql.Identifier(f"key{number}") for number in range(len(keys))]
        content = self.source.content("t")
        return {
            "name": sql.Literal(self.name),
            "table": self.table.identifier,
            "embedding": sql.Identifier(self.embedding),
            "hash": sql.Identifier(self.hash),
            "fingerprint": sql.Identifier(self.model),
            "type": sql.SQL("{}({})").format(
                sql.Identifier(pgvector.schema, self.kind), sql.Literal(self.dimensions)
            ),
            "model": model,
            "content": content,
            "content_hash": sql.SQL("sha256(convert_to(({})::text, 'UTF8'))").format(content),
            "first_key": sql.Identifier(keys[0]),
            "key_matches": _all_equal(row, stored),
            "key_columns": sql.SQL(", ").join(
                sql.SQL("{} as {}").format(column, alias)
                for column, alias in zip(row, aliases, strict=True)
            ),
            "found_matches": _all_equal(
                row, [sql.SQL("found.{}").format(alias) for alias in aliases]
            ),
            "row_key": self.key("t"),
            "new_key": self.key("new"),
            "changed": self._changed(),
            "is_current": self._is_current(model),
            "most_bytes": sql.Literal(4 * MIB),  # as of a row of a file
            "most_bytes_at_once": sql.Literal(16 * MIB),
        }

    def key(self, row: str) -> sql.Composed:
        """The key of a row as jsonb, which writes dates the same way in every session."""
        pairs = [
            sql.SQL("{}, {}").format(sql.Literal(key), _field(row, key)) for key in self.table.keys
        ]
        return sql.SQL("pg_catalog.jsonb_build_object({})").format(sql.SQL(", ").join(pairs))

    def _stored(self, key: str) -> sql.Composed:
        """A part of a queue entry's key, in the column's type."""
        return sql.SQL("(q.key ->> {})::{}").format(
            sql.Literal(key), sql.SQL(self.table.columns[key])
        )

    def _is_current(self, model: sql.Composable) -> sql.Composed:
        """Whether `c`, the column's row, still has this model and this source."""
        source = self.source
        return sql.SQL(
            "c.name = {} and c.fingerprint = {} and (c.template, c.function, c.title) "
            "is not distinct from ({}::text, {}::text, {}::text)"
        ).format(
            sql.Literal(self.name),
            model,
            sql.Literal(source.template),
            sql.Literal(source.function),
            sql.Literal(source.title),
        )

    def _changed(self) -> sql.Composable:
        """Whether an update needs a new vector: text or key changed, or the vector was removed."""
        if self.source.function is not None:
            own = sql.SQL("{}::pg_catalog.text[]").format(sql.Literal(self.own))
            changes = [
                sql.SQL(
                    "pg_catalog.to_jsonb(new) - {0} is distinct from pg_catalog.to_jsonb(old) - {0}"
                ).format(own)
            ]
        else:
            changes = [
                sql.SQL(
                    "new.{0}::pg_catalog.text is distinct from old.{0}::pg_catalog.text"
                ).format(sql.Identifier(name))
                for name in dict.fromkeys((*self.source.columns, *self.table.keys))
            ]
        removed = sql.SQL("new.{0} is null and old.{0} is not null").format(
            sql.Identifier(self.embedding)
        )
        return sql.SQL(" or ").join([*changes, removed])


def statement(file: str, parts: Mapping[str, sql.Composable]) -> sql.Composed:
    """A file of `sql/` with its parts in place."""
    text = resources.files("jobs.table").joinpath("sql", file).read_text(encoding="utf-8")
    return sql.SQL(text).format(**parts)


def load_columns(connection: psycopg.Connection, names: Sequence[str] = ()) -> list[Column]:
    """The columns that are set up in this database, without those of dropped tables.

    Args:
        connection: to the database.
        names: of columns; all of them when it is empty.
    """
    if not is_set_up(connection):
        return []
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            "SELECT c.*, c.relation::oid::bigint AS oid, n.nspname, t.relname "
            "FROM embedding_api.columns c JOIN pg_class t ON t.oid = c.relation "
            "JOIN pg_namespace n ON n.oid = t.relnamespace "
            "WHERE cardinality(%(names)s::text[]) = 0 OR c.name = ANY(%(names)s) ORDER BY c.name",
            {"names": list(names)},
        ).fetchall()
    return [_column(connection, row) for row in found]


def is_set_up(connection: psycopg.Connection) -> bool:
    """Whether the set-up was ever run in this database."""
    found = connection.execute("SELECT to_regclass('embedding_api.columns') IS NOT NULL").fetchone()
    return found == (True,)


def _column(connection: psycopg.Connection, row: Mapping[str, Any]) -> Column:
    columns = catalog.columns_of(connection, row["oid"])
    return Column(
        name=row["name"],
        table=catalog.Table(
            row["oid"], row["nspname"], row["relname"], columns, tuple(row["keys"])
        ),
        embedding=row["embedding"],
        source=Source(row["template"], row["function"], row["title"]),
        kind=row["kind"],
        dimensions=row["dimensions"],
        search=row["search"],
        made=row["made"],
        fingerprint=row["fingerprint"],
    )


def _field(row: str, column: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(sql.SQL(row), sql.Identifier(column))


def _all_equal(left: Sequence[sql.Composable], right: Sequence[sql.Composable]) -> sql.Composed:
    pairs = zip(left, right, strict=True)
    return sql.SQL(" and ").join(sql.SQL("{} = {}").format(one, other) for one, other in pairs)

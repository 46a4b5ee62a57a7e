"""What a database says of a table: its key, its columns, and where pgvector is."""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from jobs.errors import UsageError

ORDINARY, PARTITIONED = "r", "p"  # pg_class.relkind


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the catalog has it; types are written with their schemas."""

    oid: int
    schema: str
    name: str
    columns: Mapping[str, str]  # type by column
    keys: tuple[str, ...]  # columns of the primary key

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Pgvector:
    """The extension: its schema, and its version."""

    schema: str
    version: tuple[int, ...]


def find_table(connection: psycopg.Connection, name: str) -> Table:
    """The table of that name, as SQL spells it.

    Raises:
        UsageError: there is none, or it is a view, or has no primary key.
    """
    found = connection.execute(
        "SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)",
        [name],
    ).fetchone()
    if found is None:
        raise UsageError(f"there is no table {name}: write its schema too, as in public.{name}")
    oid, schema, relation, kind = found
    if kind not in (ORDINARY, PARTITIONED):
        raise UsageError(f"{name} is no table: vectors are kept in a table's own column")
    keys = keys_of(connection, oid)
    if not keys:
        raise UsageError(f"{name} has no primary key, by which its rows are found again: add one")
    return Table(oid, schema, relation, columns_of(connection, oid), keys)


def keys_of(connection: psycopg.Connection, oid: int) -> tuple[str, ...]:
    """The columns of the primary key, in its order."""
    found = connection.execute(
        "SELECT a.attname FROM pg_index i "
        "CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(number, place) "
        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number "
        "WHERE i.indrelid = %s AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place",
        [oid],
    )
    return tuple(name for (name,) in found.fetchall())


def columns_of(connection: psycopg.Connection, oid: int) -> dict[str, str]:
    """The type of each column. The session's search_path should be empty."""
    found = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [oid],
    )
    return dict(found.fetchall())


def find_pgvector(connection: psycopg.Connection) -> Pgvector | None:
    """None where the extension is not installed in this database."""
    found = connection.execute(
        "SELECT n.nspname, e.extversion FROM pg_extension e "
        "JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    ).fetchone()
    if found is None:
        return None
    numbers = (part for part in found[1].split(".") if part.isdecimal())
    return Pgvector(found[0], tuple(map(int, numbers)))


def has_schema(connection: psycopg.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [name])
    return found.fetchone() is not None

"""Advance the sequences of a table after rows with explicit ids were loaded into it.

Otherwise the next insert of the application would get an id that is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

# Sequences of identity and serial columns, and of defaults that call nextval.
FIND = """
SELECT a.attname, d.objid::regclass::text FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    AND a.attrelid = to_regclass(%(table)s) AND a.attname = ANY(%(columns)s)
UNION
SELECT a.attname, d.refobjid::regclass::text FROM pg_attrdef f
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
WHERE a.attrelid = to_regclass(%(table)s) AND a.attname = ANY(%(columns)s)
    AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
"""
# Never moves a sequence back. Takes no lock, since inserts of the application would wait for it.
ADVANCE = """
SELECT setval(q.seqrelid, ids.highest)
FROM pg_sequence q, (SELECT max(id::bigint) AS highest FROM unnest(%(ids)s::text[]) AS id) ids
WHERE q.seqrelid = %(sequence)s::regclass AND q.seqincrement > 0 AND ids.highest <= q.seqmax
    AND ids.highest > coalesce(pg_sequence_last_value(q.seqrelid), q.seqstart - 1)
"""


@dataclass(frozen=True, slots=True)
class OwnSequence:
    """The sequence that a column takes its default values from."""

    column: str
    name: str  # as PostgreSQL writes it, quoted where necessary


def sequences_of(
    connection: psycopg.Connection, table: str, columns: Sequence[str]
) -> list[OwnSequence]:
    """The sequences of columns; `table` is an SQL identifier."""
    found = connection.execute(FIND, {"table": table, "columns": list(columns)}).fetchall()
    return [OwnSequence(*row) for row in found]


def advance(connection: psycopg.Connection, sequence: OwnSequence, ids: Sequence[object]) -> None:
    """Make the next value of a sequence larger than every id."""
    given = [str(one) for one in ids if one is not None]
    connection.execute(ADVANCE, {"sequence": sequence.name, "ids": given})

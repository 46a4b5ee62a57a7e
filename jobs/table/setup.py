"""What `--setup` and `--teardown` change in a database, as SQL that can be read first."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import psycopg
from psycopg import sql

from jobs.errors import UsageError
from jobs.table import catalog
from jobs.table.column import Column, load_columns, statement
from jobs.table.source import Source

KINDS = ("halfvec", "vector")
ITERATIVE_SCANS = (0, 8)  # pgvector's version with them
LOCK_TIMEOUT = "10s"  # for the table, while others use it
# Of texts that are posted: MAX_BODY_BYTES is 8 MiB, and in JSON one byte may become six.
MOST_BYTES = 1024 * 1024
MOST_BYTES_AT_ONCE = 64 * 1024  # about 16,000 tokens: 8 s at 2,000 tokens/s
NOT_INSTALLED = catalog.Pgvector("public", (1,))


def plan(
    connection: psycopg.Connection,
    *,
    table: str,
    embedding: str,
    source: Source,
    kind: str,
    dimensions: int,
    task: str | None,
    search: str | None,
) -> Column:
    """The column that these options mean, checked against the database.

    Raises:
        UsageError: the table or the options do not fit; one line says what to do.
    """
    found = catalog.find_table(connection, table)
    _qualify(connection)
    found = replace(found, columns=catalog.columns_of(connection, found.oid))
    known = {(one.table.oid, one.embedding): one for one in load_columns(connection)}.get(
        (found.oid, embedding)
    )
    column = Column(
        name=known.name if known else f"{found.full_name}.{embedding}",
        table=found,
        embedding=embedding,
        source=source,
        kind=kind,
        dimensions=dimensions,
        task=task,
        search=search or (known.search if known else f"search_{found.name}"),
        made=known.made if known else embedding not in found.columns,
        fingerprint=known.fingerprint if known else None,
    )
    _check(connection, column, known)
    return column


def setup_script(
    connection: psycopg.Connection, column: Column, *, with_index: bool
) -> sql.Composed:
    """One transaction that sets the column up, and changes nothing where that was done before."""
    pgvector = catalog.find_pgvector(connection)
    extension: list[sql.Composable] = []
    if pgvector is None:
        there = catalog.has_schema(connection, "extensions")  # as on Supabase
        pgvector = replace(NOT_INSTALLED, schema="extensions" if there else "public")
        extension = [
            sql.SQL("create extension if not exists vector with schema {};\n").format(
                sql.Identifier(pgvector.schema)
            )
        ]
    index = ["index.sql"] if with_index else []
    files = ["schema.sql", "column.sql", "functions.sql", *index, "search.sql", "requeue.sql"]
    parts = {**_parts(column, pgvector), **_bodies(column, pgvector)}
    statements = [statement(file, parts) for file in files]
    return _transaction([*extension, *statements])


def teardown_script(connection: psycopg.Connection, column: Column) -> sql.Composed:
    """One transaction that removes what the set-up made; the last column takes the schema along."""
    pgvector = catalog.find_pgvector(connection) or NOT_INSTALLED
    statements: list[sql.Composable] = [statement("teardown.sql", _parts(column, pgvector))]
    made = column.own if column.made else column.own[1:]
    drops = [sql.SQL("drop column if exists {}").format(sql.Identifier(name)) for name in made]
    statements.append(
        sql.SQL("alter table {} {};\n").format(column.table.identifier, sql.SQL(", ").join(drops))
    )
    if not [one for one in load_columns(connection) if one.name != column.name]:
        statements.append(sql.SQL("drop schema embedding_api cascade;\n"))
    return _transaction(statements)


def find_column(connection: psycopg.Connection, table: str, embedding: str) -> Column:
    """The column that was set up. Raises UsageError when none was."""
    found = catalog.find_table(connection, table)
    _qualify(connection)
    for column in load_columns(connection):
        if (column.table.oid, column.embedding) == (found.oid, embedding):
            return column
    raise UsageError(f"{found.full_name}.{embedding} is not set up: run --setup first")


def requeue(connection: psycopg.Connection, column: Column, fingerprint: str) -> None:
    """Have every row embedded that has no vector of the model with this fingerprint."""
    pgvector = catalog.find_pgvector(connection) or NOT_INSTALLED
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute(
            "UPDATE embedding_api.columns SET fingerprint = %s WHERE name = %s",
            [fingerprint, column.name],
        )
        connection.execute(statement("requeue.sql", column.parts(pgvector)))


def _transaction(statements: list[sql.Composable]) -> sql.Composed:
    before = sql.SQL(
        "begin;\nset local search_path = '';\nset local statement_timeout = 0;\n"
        "set local lock_timeout = {};\n\n"
    ).format(sql.Literal(LOCK_TIMEOUT))
    return sql.Composed([before, sql.SQL("\n").join(statements), sql.SQL("\ncommit;\n")])


def _qualify(connection: psycopg.Connection) -> None:
    """Have the catalog write every type with its schema, until the end of the transaction."""
    connection.execute("SET LOCAL search_path = ''")


def _parts(column: Column, pgvector: catalog.Pgvector) -> Mapping[str, sql.Composable]:
    """Of the set-up, besides those that the worker needs too."""
    table, source = column.table, column.source
    shown = list(dict.fromkeys((*table.keys, *source.columns)))
    scans = pgvector.version >= ITERATIVE_SCANS
    return {
        **column.parts(pgvector),
        "relation": sql.SQL("{}::regclass").format(sql.Literal(table.identifier.as_string(None))),
        "embedding_name": sql.Literal(column.embedding),
        "keys": sql.SQL("{}::text[]").format(sql.Literal(list(table.keys))),
        "template": sql.Literal(source.template),
        "function": sql.Literal(source.function),
        "title": sql.Literal(source.title),
        "kind": sql.Literal(column.kind),
        "dimensions": sql.Literal(column.dimensions),
        "task": sql.Literal(column.task),
        "made": sql.Literal(column.made),
        "search_name": sql.Literal(column.search),
        "trigger": sql.Identifier(column.trigger),
        "trigger_function": sql.Identifier("embedding_api", column.trigger),
        "read_function": sql.Identifier("embedding_api", f"read_{column.digest}"),
        "write_function": sql.Identifier("embedding_api", f"write_{column.digest}"),
        "index": sql.Identifier(column.index),
        "index_name": sql.Identifier(table.schema, column.index),
        "operator_class": sql.Identifier(pgvector.schema, f"{column.kind}_cosine_ops"),
        "search": sql.Identifier(table.schema, column.search),
        "type_name": sql.Identifier(pgvector.schema, column.kind),
        "vector_schema": sql.Identifier(pgvector.schema),
        # Policies filter what the index finds: without this, a role that may see few rows finds
        # fewer than it may.
        "settings": sql.SQL(" set hnsw.iterative_scan = strict_order" if scans else ""),
        "returns": sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(table.columns[name]))
            for name in shown
        ),
        "selected": sql.SQL(", ").join(
            sql.SQL("t.{}").format(sql.Identifier(name)) for name in shown
        ),
    }


def _bodies(column: Column, pgvector: catalog.Pgvector) -> Mapping[str, sql.Composable]:
    """The worker's statements as bodies of functions, with arguments in place of values."""
    first, second, third, fourth = (sql.SQL(f"${number}") for number in range(1, 5))
    claim = {"names": first, "fingerprint": second, "most": third, "lease": fourth}
    most = {
        "most_bytes": sql.Literal(MOST_BYTES),
        "most_bytes_at_once": sql.Literal(MOST_BYTES_AT_ONCE),
    }
    read = {**column.parts(pgvector, second), **most, "ids": first}
    write = {"ids": first, "vectors": second, "hashes": third}
    return {
        "claim": statement("claim.sql", claim),
        "read": statement("read.sql", read),
        "write": statement("write.sql", {**column.parts(pgvector, fourth), **write}),
    }


def _check(connection: psycopg.Connection, column: Column, known: Column | None) -> None:
    column.source.check([*column.table.columns])
    for name in column.own[1:]:
        if known is None and name in column.table.columns:
            raise UsageError(
                f"the table has a column {name!r} of its own: rename it, or give another --column"
            )
    for complaint in _type_complaints(column, known):
        raise UsageError(complaint)
    taken = connection.execute(
        "SELECT 1 FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = %s AND p.proname = %s",
        [column.table.schema, column.search],
    ).fetchone()
    if known and known.search != column.search:
        raise UsageError(f"its search is {known.search}: run --teardown first to rename it")
    if taken and not known:
        raise UsageError(
            f"there is a function {column.table.schema}.{column.search} already: "
            "give the search another name with --search"
        )


def _type_complaints(column: Column, known: Column | None) -> Iterator[str]:
    wanted = f"{column.kind}({column.dimensions})"
    there = column.table.columns.get(column.embedding)
    if there is not None and there.split(".")[-1] != wanted:
        hint = "run --teardown first" if known and known.made else "give another --column"
        yield f"{column.name} is {there}, not {wanted}: {hint}"
    most = 4000 if column.kind == "halfvec" else 2000
    if column.dimensions > most:
        yield f"pgvector's index takes {column.kind} of at most {most} dimensions"

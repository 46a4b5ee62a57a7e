"""Keep a column of a PostgreSQL table filled with the vectors of its rows.

    python -m jobs.embed_table TABLE --setup --text COLUMN     once: column, trigger, queue, search
    python -m jobs.embed_table                                 the worker, beside the database
    python -m jobs.embed_table status                          how far it is
    python -m jobs.embed_table TABLE --reembed                 after a change of model
    python -m jobs.embed_table TABLE --teardown                remove all of it

Model and limits are the service's settings (MODEL_NAME, MODEL_QUANTIZATION, ...). Exit status: 0
done, 1 failed, 2 wrong use, 3 some rows have no vector (status and --once).
"""

import argparse
import os
import sys

from embedder.prepare import store
from embedder.profile import Profile, model_tag
from jobs.embed_dataset import engine_for, find_model
from jobs.errors import SOME_ROWS_BAD, UsageError, printable
from jobs.exit_status import run_command
from jobs.job import add_overflow
from jobs.output.database import URL, Database, database_of, shows_password
from jobs.table import setup
from jobs.table.column import is_set_up
from jobs.table.run import Options, Worker
from jobs.table.source import source_of
from jobs.table.state import failures, states
from jobs.table.texts import DOCUMENT, task_of
from settings import Settings, load_settings

STATUS = "status"
DIMENSIONS = 768  # of EmbeddingGemma, where no model is prepared on this machine
FAILURES_SHOWN = 5
PASSWORD_SHOWN = (
    "embedding-api: every user of this machine can read the password in --database "
    f"while this runs; put it into PGPASSWORD or ~/.pgpass, or the whole URL into {URL}"
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.embed_table", description="Keep a column of vectors filled."
    )
    parser.add_argument(
        "table",
        metavar="TABLE",
        nargs="?",
        help=f"a table, or the word {STATUS}; without it the worker fills all columns",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--setup", action="store_true", help="add columns, trigger, queue, index and search"
    )
    action.add_argument("--teardown", action="store_true", help="remove them, vectors included")
    action.add_argument(
        "--reembed", action="store_true", help="embed all rows again with the configured model"
    )
    action.add_argument("--once", action="store_true", help="end the worker when no row waits")
    parser.add_argument(
        "--print",
        action="store_true",
        help="print the SQL of --setup or --teardown instead of running it",
    )
    _add_column(parser)
    parser.add_argument(
        "--database",
        metavar="postgresql://...",
        help=f"the database (default: {URL}, or PGHOST and its like)",
    )
    parser.add_argument(
        "--threads", metavar="N", type=int, help="of the engine (default: one per CPU)"
    )
    parser.add_argument(
        "--niceness",
        type=int,
        default=10,
        metavar="N",
        help="priority, 0 to 19 (default: 10): queries of the service come first on the same cores",
    )
    parser.add_argument(
        "--lease",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="after which rows of a worker that died are taken over (default: 60)",
    )
    parser.add_argument(
        "--metrics-port", metavar="PORT", type=int, help="serve Prometheus metrics on 127.0.0.1"
    )
    add_overflow(parser)
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    options = parser.parse_args(arguments)
    _check(parser, options)
    return options


def _add_column(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", metavar="COLUMN", help="the column that is embedded")
    parser.add_argument(
        "--template", metavar="'{title}\\n{body}'", help="or several columns, joined"
    )
    parser.add_argument(
        "--function", metavar="SCHEMA.NAME", help="or the result of a function that takes the row"
    )
    parser.add_argument("--title", metavar="COLUMN", help="the column with titles")
    parser.add_argument(
        "--column", default="embedding", help="the column of vectors (default: embedding)"
    )
    parser.add_argument(
        "--type", choices=setup.KINDS, default=setup.KINDS[0], help="its type (default: halfvec)"
    )
    parser.add_argument(
        "--dimensions", metavar="N", type=int, help="its size (default: the model's)"
    )
    parser.add_argument(
        "--search", metavar="NAME", help="the search function (default: search_TABLE)"
    )
    parser.add_argument("--no-index", action="store_true", help="do not create the HNSW index yet")


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    named = options.setup or options.teardown or options.reembed
    if named and options.table is None:
        parser.error("--setup, --teardown and --reembed go with a TABLE")
    if options.print and not (options.setup or options.teardown):
        parser.error("--print goes with --setup or --teardown")
    if not 0 <= options.niceness <= 19:
        parser.error("--niceness should be 0 to 19")
    if not 1 <= options.lease <= 3600:
        parser.error("--lease should be 1 to 3600 seconds")
    if options.metrics_port is not None and not 1 <= options.metrics_port <= 65535:
        parser.error("--metrics-port should be 1 to 65535")
    if options.threads is not None and options.threads < 1:
        parser.error("--threads should be 1 or more")


def set_up(options: argparse.Namespace, database: Database) -> int:
    source = source_of(options.text, options.template, options.function, options.title)
    profile = prepared(load_settings())
    dimensions = options.dimensions or DIMENSIONS
    task: str | None = DOCUMENT
    if profile is not None:
        task = task_of(profile, titles=source.title is not None)
        dimensions = profile.size_of(options.dimensions)
    with database.connection("--setup") as connection:
        with connection.transaction():
            column = setup.plan(
                connection,
                table=options.table,
                embedding=options.column,
                source=source,
                kind=options.type,
                dimensions=dimensions,
                task=task,
                search=options.search,
            )
            script = setup.setup_script(connection, column, with_index=not options.no_index)
        if options.print:
            print(script.as_string(connection))
            return 0
        connection.execute(script)
    said = f"{column.name} is set up; search it with {column.table.schema}.{column.search}"
    _say(options, f"{said}. Now run the worker: python -m jobs.embed_table")
    return 0


def tear_down(options: argparse.Namespace, database: Database) -> int:
    with database.connection("--teardown") as connection:
        with connection.transaction():
            column = setup.find_column(connection, options.table, options.column)
            script = setup.teardown_script(connection, column)
        if options.print:
            print(script.as_string(connection))
            return 0
        connection.execute(script)
    _say(options, f"{column.name} is removed; the extension vector stays")
    return 0


def reembed(options: argparse.Namespace, database: Database) -> int:
    _, profile = find_model(load_settings())
    with database.connection("--reembed") as connection:
        with connection.transaction():
            column = setup.find_column(connection, options.table, options.column)
        profile.size_of(column.dimensions)
        setup.requeue(connection, column, profile.fingerprint)
    _say(options, f"{column.name} gets the vectors of {profile.model_id} ({profile.fingerprint})")
    return 0


def status(database: Database) -> int:
    """Print a line for each column, and the rows that were given up last."""
    with database.connection(STATUS) as connection:
        found = states(connection) if is_set_up(connection) else []
        if not found:
            print("no column is set up: run --setup first")
            return 0
        for state in found:
            print(state)
        for failure in failures(connection, most=FAILURES_SHOWN):
            print(printable(f"{failure.name} {failure.key}: {failure.last_error}", most=500))
    return SOME_ROWS_BAD if any(state.dead for state in found) else 0


def work(options: argparse.Namespace, database: Database) -> int:
    names: tuple[str, ...] = ()
    if options.table is not None:
        with database.connection("TABLE") as connection, connection.transaction():
            column = setup.find_column(connection, options.table, options.column)
        names = (column.name,)
    engine = engine_for(load_settings(), threads=options.threads)
    how = Options(
        names,
        options.once,
        options.lease,
        options.niceness,
        options.metrics_port,
        options.overflow,
    )
    return Worker(database, engine, how, lambda text: _say(options, text)).run()


def prepared(settings: Settings) -> Profile | None:
    """The model that the service would load; None where it is not prepared on this machine."""
    found = store.find(
        model_tag(settings.model_name, settings.model_quantization, settings.model_backend)
    )
    return found[1] if found else None


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        print(f"embedding-api: {printable(text, most=2000)}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    database = database_of(options.database, os.environ)
    if database is None:
        raise UsageError(f"no database is named: set {URL}, or PGHOST and PGDATABASE")
    if shows_password(options.database) and not options.quiet:
        print(PASSWORD_SHOWN, file=sys.stderr)
    if options.table == STATUS:
        return status(database)
    if options.setup:
        return set_up(options, database)
    if options.teardown:
        return tear_down(options, database)
    if options.reembed:
        return reembed(options, database)
    return work(options, database)


if __name__ == "__main__":
    sys.exit(run_command(main))

"""A PostgreSQL to load into: how to reach it, and whose fault an error is."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from jobs import not_installed
from jobs.errors import JobError, UsageError, one_line

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    not_installed(error.name)

URL = "DATABASE_URL"
# libpq reads these, ~/.pgpass and ~/.pg_service.conf by itself.
OF_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE")
# Classes of SQLSTATE that say the table or the rows are wrong: everything else, such as a lost
# connection or a pooler's refusal, may be over when the same command is given again.
OF_THE_TABLE = frozenset({"0A", "22", "23", "2B", "3F", "42", "54"})
OF_A_SESSION = frozenset({"42P05"})  # a prepared statement that another client of a pooler made


@dataclass(frozen=True, slots=True)
class Database:
    """`conninfo` is a URL or key=value pairs of libpq; empty for what its environment says."""

    conninfo: str = field(repr=False)
    passwords: tuple[str, ...] = field(repr=False)  # not to be shown

    @contextmanager
    def connection(self, purpose: str) -> Iterator[psycopg.Connection]:
        """A connection in autocommit mode, which a transaction pooler may stand before.

        Raises UsageError, which begins with `purpose`, for what is wrong with tables and rows, and
        JobError for everything else.
        """
        try:
            with psycopg.connect(
                self.conninfo,
                application_name="embedding-api",
                connect_timeout=10,
                autocommit=True,
                prepare_threshold=None,  # a pooler gives each transaction another session
            ) as connection:
                yield connection
        except psycopg.Error as error:
            raise self._told(error, purpose) from None  # psycopg's own words may have a password

    def _told(self, error: psycopg.Error, purpose: str) -> JobError:
        message = one_line(error)
        for password in self.passwords:
            message = message.replace(password, "***").replace(quote(password, safe=""), "***")
        state = error.sqlstate or ""
        if state[:2] in OF_THE_TABLE and state not in OF_A_SESSION:
            return UsageError(f"{purpose}: {message}")
        return JobError(f"PostgreSQL: {message}; the same command goes on")


def database_of(given: str | None, environment: Mapping[str, str]) -> Database | None:
    """The database of `--to`, or of the environment; None where neither names one.

    Raises UsageError for a connection string that cannot be read, without showing it.
    """
    conninfo = given or environment.get(URL) or ""
    if not conninfo and not any(name in environment for name in OF_LIBPQ):
        return None
    passwords = [environment.get("PGPASSWORD"), _password(conninfo)]
    return Database(conninfo, tuple(one for one in passwords if one))


def _password(conninfo: str) -> str | None:
    """Raises UsageError where a part of a password might be read as a host, and shown as one."""
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.Error:
        parts = {"port": "unreadable"}
    misread = any("@" in str(parts.get(name) or "") for name in ("host", "dbname"))
    ports = str(parts.get("port") or "").split(",")
    if misread or not all(port.isdecimal() for port in ports if port):
        raise UsageError(
            f"--to or {URL} is no connection string: write postgresql://USER@HOST:5432/DATABASE, "
            "with @ : / in a password as %40 %3A %2F"
        )
    password = parts.get("password")
    return str(password) if password else None


def shows_password(given: str | None) -> bool:
    """Whether everybody on this machine can read a password in the list of processes."""
    return bool(given and _password(given))

"""A connection to PostgreSQL, and errors of it as messages for the user."""

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
# Variables that libpq reads itself, like ~/.pgpass and ~/.pg_service.conf.
OF_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE")
# Classes of SQLSTATE for wrong tables and rows. Other errors, such as a lost connection or a
# pooler's refusal, may be gone when the command is run again.
OF_THE_TABLE = frozenset({"0A", "22", "23", "2B", "3F", "42", "54"})
OF_A_SESSION = frozenset({"42P05"})  # a prepared statement of another client of the pooler


@dataclass(frozen=True, slots=True)
class Database:
    """How to connect.

    `conninfo` is a URL or key=value pairs of libpq; empty to use libpq's environment variables.
    """

    conninfo: str = field(repr=False)
    passwords: tuple[str, ...] = field(repr=False)  # removed from messages
    remedy: str = "the same command resumes the job"  # the end of a JobError's message

    @contextmanager
    def connection(self, purpose: str) -> Iterator[psycopg.Connection]:
        """Connect in autocommit mode, with nothing that a transaction pooler does not support.

        Args:
            purpose: the beginning of the message of a UsageError.

        Raises:
            UsageError: a table or a row is wrong.
            JobError: every other error of PostgreSQL.
        """
        try:
            with psycopg.connect(
                self.conninfo,
                application_name="embedding-api",
                connect_timeout=10,
                autocommit=True,
                prepare_threshold=None,  # behind a pooler each transaction has another session
            ) as connection:
                yield connection
        except psycopg.Error as error:
            raise self._job_error(error, purpose) from None  # its message may have a password

    def _job_error(self, error: psycopg.Error, purpose: str) -> JobError:
        message = one_line(error)
        for password in self.passwords:
            message = message.replace(password, "***").replace(quote(password, safe=""), "***")
        state = error.sqlstate or ""
        if state[:2] in OF_THE_TABLE and state not in OF_A_SESSION:
            return UsageError(f"{purpose}: {message}")
        return JobError(f"PostgreSQL: {message}; {self.remedy}")


def database_of(given: str | None, environment: Mapping[str, str]) -> Database | None:
    """The database of a command's option, or of the environment; None when neither names one.

    Raises:
        UsageError: the connection string is invalid; the message does not show it.
    """
    conninfo = given or environment.get(URL) or ""
    if not conninfo and not any(name in environment for name in OF_LIBPQ):
        return None
    passwords = [environment.get("PGPASSWORD"), _password(conninfo)]
    return Database(conninfo, tuple(one for one in passwords if one))


def _password(conninfo: str) -> str | None:
    """The password of a connection string.

    Raises:
        UsageError: a part of the password may be parsed as a host, and messages would show it.
    """
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.Error:
        parts = {"port": "unreadable"}
    misread = any("@" in str(parts.get(name) or "") for name in ("host", "dbname"))
    ports = str(parts.get("port") or "").split(",")
    if misread or not all(port.isdecimal() for port in ports if port):
        raise UsageError(
            f"the database's URL, given or in {URL}, is not a connection string: write "
            "postgresql://USER@HOST:5432/DATABASE, with @ : / in a password as %40 %3A %2F"
        )
    password = parts.get("password")
    return str(password) if password else None


def shows_password(given: str | None) -> bool:
    """Whether the argument has a password, which every user of this machine can see in `ps`."""
    return bool(given and _password(given))

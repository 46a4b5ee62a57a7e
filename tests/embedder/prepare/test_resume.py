"""A download from the hub that breaks is continued. The hub is a local server."""

import hashlib
import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from filelock import FileLock
from huggingface_hub import HfApi

from embedder.prepare import resume
from embedder.prepare.errors import DiskFullError, DownloadDamagedError, DownloadRunningError
from embedder.prepare.resume import fetch_large_files

MODEL = "organisation/model"
NAME = "model.safetensors"
COMMIT = "c" * 40
CONTENT = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Describes one model with one large file, and breaks off where it is told to."""

    content: ClassVar[bytes] = CONTENT
    breaks_at: ClassVar[int | None] = None
    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            lfs = {"size": len(CONTENT), "sha256": SHA256, "pointerSize": 1}
            siblings = [
                {"rfilename": NAME, "size": len(CONTENT), "blobId": "b", "lfs": lfs},
                {"rfilename": "config.json", "size": 2, "blobId": "b"},
            ]
            self._send(200, json.dumps({"id": MODEL, "sha": COMMIT, "siblings": siblings}).encode())
            return
        asked = self.headers["Range"]
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self._send(206 if asked else 200, self.content[start:])

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.breaks_at])
        if self.breaks_at is not None and len(body) > self.breaks_at:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HfApi]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(resume, "LARGE", 100_000)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr(Hub, "content", CONTENT)
    monkeypatch.setattr(Hub, "ranges", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token=False)
        server.shutdown()


def blobs(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.rglob("blobs/*")}


def test_a_download_whose_process_was_killed_goes_on_where_it_ended(
    hub: HfApi, tmp_path: Path
) -> None:
    part = tmp_path / "models--organisation--model" / "blobs" / f"{SHA256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:120_000])
    fetch_large_files(hub, MODEL, ending=".safetensors")
    assert Hub.ranges == ["bytes=120000-"]
    assert blobs(tmp_path) == {SHA256: CONTENT}


def test_a_connection_that_breaks_loses_nothing(
    hub: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's client waits before it tries
    monkeypatch.setattr(Hub, "breaks_at", 110_000)
    fetch_large_files(hub, MODEL, ending=".safetensors")
    assert len(Hub.ranges) == 3
    assert blobs(tmp_path) == {SHA256: CONTENT}


def test_what_is_there_is_not_fetched_again(hub: HfApi, tmp_path: Path) -> None:
    for _ in range(2):
        fetch_large_files(hub, MODEL, ending=".safetensors")
    assert Hub.ranges == [None]


def test_small_files_and_others_are_left_to_the_hubs_client(hub: HfApi, tmp_path: Path) -> None:
    fetch_large_files(hub, MODEL, ending=".bin")
    assert Hub.ranges == []


def test_a_file_that_another_process_fetches_is_left_to_it(hub: HfApi, tmp_path: Path) -> None:
    locks = tmp_path / ".locks" / f"models--{MODEL.replace('/', '--')}"
    locks.mkdir(parents=True)
    with (
        FileLock(locks / f"{SHA256}.part.lock"),
        pytest.raises(DownloadRunningError, match="start again when it is done"),
    ):
        fetch_large_files(hub, MODEL, ending=".safetensors")
    assert blobs(tmp_path) == {}
    fetch_large_files(hub, MODEL, ending=".safetensors")
    assert blobs(tmp_path) == {SHA256: CONTENT}


def test_a_damaged_download_is_removed(
    hub: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "content", bytes(len(CONTENT)))
    with pytest.raises(DownloadDamagedError, match="fetch it again"):
        fetch_large_files(hub, MODEL, ending=".safetensors")
    assert blobs(tmp_path) == {}


def test_a_disk_that_is_too_small_is_told_of_before_the_download(
    hub: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 299_999}))
    with pytest.raises(DiskFullError):
        fetch_large_files(hub, MODEL, ending=".safetensors")
    assert Hub.ranges == []


def test_a_hub_that_does_not_answer_is_left_to_its_client(tmp_path: Path) -> None:
    api = HfApi(endpoint="http://127.0.0.1:9", token=False)
    fetch_large_files(api, MODEL, ending=".safetensors")

"""Sources of models, and errors when they are not available. The hub is a local server."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embedder.errors import EmbedderError
from embedder.prepare.errors import (
    DiskFullError,
    LicenceNotAcceptedError,
    ModelSourceError,
    ModelUnknownError,
    NetworkError,
    TokenRefusedError,
    TokenRequiredError,
)
from embedder.prepare.source import Source, content_hash, download, locate
from embedder.prepare.store import require_space

GATED_MODEL = "google/embeddinggemma-300m"
OTHER_MODEL = "organisation/model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], str]]:
    """A server that refuses every request with one status and one of the hub's error codes."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, code: str) -> str:
        class Refusal(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                if status == 401 and not code:  # what the hub says of an unknown token
                    self.send_header(
                        "X-Error-Message", "Invalid credentials in Authorization header"
                    )
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Refusal))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_without_a_token_the_gated_model_says_how_to_get_one() -> None:
    with pytest.raises(TokenRequiredError, match=r"HF_TOKEN.*|.*huggingface\.co/settings/tokens"):
        locate(GATED_MODEL)


@pytest.mark.parametrize(
    ("status", "code", "token", "expected", "advice"),
    [
        (403, "GatedRepo", "hf_token", LicenceNotAcceptedError, "accept the licence"),
        (401, "GatedRepo", None, TokenRequiredError, "HF_TOKEN"),
        (401, "", "hf_token", TokenRefusedError, "does not know HF_TOKEN"),
        (404, "RepoNotFound", "hf_token", ModelUnknownError, "organisation/name"),
        (500, "", "hf_token", NetworkError, "huggingface.co could not be reached"),
    ],
)
def test_each_refusal_of_the_hub_says_what_to_do(
    hub: Callable[[int, str], str], status: int, code: str, token: str | None,
    expected: type[EmbedderError], advice: str,
) -> None:  # fmt: skip
    with pytest.raises(expected, match=advice):
        download(OTHER_MODEL, token, endpoint=hub(status, code))


def test_without_a_network_the_message_names_alternatives(
    hub: Callable[[int, str], str],
) -> None:
    with pytest.raises(NetworkError, match="HTTPS_PROXY"):
        download(OTHER_MODEL, "hf_token", endpoint="http://127.0.0.1:9")


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match=r"modules\.json"):
        locate(str(tmp_path))


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match=r"there is no directory .*/none: set MODEL_NAME"):
        locate(str(tmp_path / "none"))


def test_a_local_directory_is_identified_by_its_contents(gemma_source: Source) -> None:
    again = locate(str(gemma_source.directory))
    assert again == gemma_source
    assert gemma_source.revision == content_hash(gemma_source.directory)


def test_a_full_disk_says_how_much_is_needed(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(DiskFullError, match=r"1000000000\.0 GB are needed; .*BENTOML_HOME"):
        require_space(tmp_path, 10**18)

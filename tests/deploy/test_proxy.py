"""The service behind real Caddy and real nginx: what passes through them."""

import json
import time

import httpx
import numpy as np
import pytest

from lab.server import Server, token
from settings import Settings
from tests.deploy.conftest import FAILURES
from tests.deploy.proxies import (
    JSON,
    Proxy,
    assert_error,
    connect,
)

NOT_SERVED = {"/metrics"}


def test_a_call_gets_its_vector(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.post("/embed", json={"text": "still here"})
    assert answer.status_code == 200
    assert len(answer.json()["embedding"]) == 384
    assert answer.headers["x-request-id"]


def test_a_large_answer_arrives_complete(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.post("/batch-embed", json={"texts": ["still here"] * 300})
    assert np.array(answer.json()["embeddings"]).shape == (300, 384)


@pytest.mark.parametrize("path", ["/openapi.json", "/schema.json", "/v1/models", "/docs"])
def test_unchanged_content_is_not_sent_again(proxy: Proxy, path: str) -> None:
    with proxy.client() as client:
        tag = client.get(path).headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            kept = client.get(path, headers={"If-None-Match": known})
            assert (kept.status_code, kept.content) == (304, b"")


def test_every_path_of_the_service_is_served_but_the_metrics(proxy: Proxy, origin: Server) -> None:
    """A GET of each path has the same status as without the proxy."""
    paths = set(httpx.get(f"{origin.url}/openapi.json").json()["paths"]) - {"/v1/models/{model}"}
    paths |= {"/", "/docs", "/redoc", "/openapi.json", "/schema.json", "/docs/swagger.js"}
    paths |= {"/playground", "/playground/main.js", "/playground/settings.json"}
    paths |= {"/v1/models/sentence-transformers/all-MiniLM-L6-v2"}
    with proxy.client() as through, origin.client() as direct:
        for path in sorted(paths - NOT_SERVED):
            assert through.get(path).status_code == direct.get(path).status_code, path
    assert paths > NOT_SERVED


def test_a_file_larger_than_any_other_body_passes_in_both_directions(proxy: Proxy) -> None:
    content = b"x" * (Settings.model_fields["max_body_bytes"].default + 1_000_000)
    files = {"file": ("in.jsonl", content)}
    with proxy.client() as client:
        made = client.post("/v1/files", data={"purpose": "batch"}, files=files)
        assert made.status_code == 200, made.text
        path = f"/v1/files/{made.json()['id']}"
        assert client.get(f"{path}/content").content == content
        assert client.delete(path).json()["deleted"]
        assert client.get("/v1/batches").json()["data"] == []
        assert_error(client.post("/embed", content=content, headers=JSON), 413, "body_too_large")


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/docs/../metrics", "/x", "/.env"]
)
def test_the_metrics_and_unknown_paths_end_at_the_proxy(proxy: Proxy, path: str) -> None:
    with connect(proxy) as connection:  # a client library would normalise the path
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    assert b"embed_" not in answer


def test_an_unknown_path_has_the_envelope_of_every_error(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert_error(client.get("/nothing"), 404, "path_not_found")


def test_a_body_over_the_limit_is_refused(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert_error(client.post("/embed", json={"text": "a" * 8_400_000}), 413, "body_too_large")
        assert_error(
            client.post("/embed", content=iter([b" " * 65536] * 129), headers=JSON),
            413,
            "body_too_large",
        )


@pytest.mark.parametrize("character", ["a", "가"])
def test_2048_texts_of_1000_characters_pass(proxy: Proxy, character: str) -> None:
    """The default batches of LangChain and the AI SDK; only tokenised, to save minutes."""
    # One word per text, since other texts of this size take 20 s to tokenise.
    body = json.dumps({"texts": [character * 1000] * 2048}, ensure_ascii=False).encode()
    with proxy.client() as client:
        answer = client.post("/tokenize", content=body, headers=JSON, timeout=120)
    assert answer.status_code == 200
    assert len(answer.json()["texts"]) == 2048


def test_headers_that_are_too_large_are_refused(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.get("/health", headers={"X-Large": "a" * 100_000})
    assert answer.status_code in (400, 431)


def test_the_error_for_an_expired_token_passes_through_the_proxy(proxy: Proxy) -> None:
    with proxy.client(bearer=token(exp=int(time.time()) - 100)) as client:
        answer = client.post("/embed", json={"text": "a"})
    assert_error(answer, 401, "token_expired")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_failures_count_for_the_address_of_the_caller_not_for_a_header(proxy: Proxy) -> None:
    def refused(client: httpx.Client, number: int) -> int:
        forged = {"X-Forwarded-For": f"203.0.113.{number}"}
        return client.post("/embed", json={"text": "a"}, headers=forged).status_code

    # Both proxies have the same service behind them, so each has its own callers.
    network = f"127.{proxy.port >> 8}.{proxy.port & 255}"
    with (
        proxy.client(f"{network}.1", "not.a.token") as bad,
        proxy.client(f"{network}.2", "not.a.token") as other,
    ):
        statuses = [refused(bad, number) for number in range(FAILURES + 2)]
        assert statuses == [*[401] * FAILURES, 429, 429]
        assert refused(other, 1) == 401

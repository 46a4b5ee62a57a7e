"""What is open to everybody: health, metrics, documentation."""

import uuid

import httpx
import pytest

from lab.server import Server, token


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/livez",
        "/readyz",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/schema.json",
        "/docs",
        "/redoc",
        "/playground",
    ],
)
def test_open_pages_need_no_token(server: Server, path: str) -> None:
    assert httpx.get(f"{server.url}{path}").status_code == 200


def test_health_says_what_serves(server: Server) -> None:
    body = httpx.get(f"{server.url}/health").json()
    assert body.keys() == {
        "status", "model", "quantization", "kernel", "fingerprint", "redis", "version"
    }  # fmt: skip
    assert (body["status"], body["quantization"], body["redis"]) == ("ok", "fp32", "ok")


def test_the_root_leads_to_the_documentation(server: Server) -> None:
    assert httpx.get(server.url, follow_redirects=True).url.path == "/docs"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_documentation_loads_from_this_server_alone(server: Server, page: str) -> None:
    with httpx.Client(base_url=server.url) as client:
        html = client.get(page)
        assert "://" not in html.text
        assert "default-src 'none'" in html.headers["content-security-policy"]
        links = [
            part.split('"')[1] for part in html.text.replace("href=", "src=").split("src=")[1:]
        ]
        assert links
        for link in links:
            assert client.get(link).status_code == 200, link


def test_metrics_have_a_bounded_number_of_series(server: Server) -> None:
    def series() -> int:
        return len(httpx.get(f"{server.url}/metrics").text.splitlines())

    httpx.get(f"{server.url}/path-0")
    before = series()
    with httpx.Client(base_url=server.url) as client:
        for number in range(200):
            client.get(f"/path-{number}")
    assert series() == before


def test_metrics_of_the_contract_are_there(server: Server) -> None:
    with server.client() as client:
        client.post("/embed", json={"text": "a"})
        client.post("/embed", json={})
        text = client.get("/metrics").text
    assert 'embed_requests_total{route="/embed",status="200"}' in text
    assert 'embed_request_duration_seconds_bucket{le="0.05",route="/embed"}' in text
    assert 'embed_errors_total{reason="invalid_request",route="/embed"}' in text


def test_the_log_tells_of_the_model_and_not_of_the_texts(server: Server) -> None:
    with server.client() as client:
        client.post("/embed", json={"text": "a very private sentence"})
        client.post("/embed", json={"text": ["a very private sentence"]})
    log = server.log()
    assert "model_loaded_successfully" in log
    assert "private sentence" not in log
    assert client.headers["authorization"].split()[1] not in log


def test_the_openapi_document_names_every_status_and_the_bearer_scheme(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path in ("/embed", "/batch-embed"):
        operation = document["paths"][path]["post"]
        assert {"200", "400", "401", "403", "413", "415", "422", "429", "500", "503"} <= operation[
            "responses"
        ].keys()
        assert operation["security"] == [{"bearer": []}]


def test_usage_tells_what_is_left_and_costs_nothing(server: Server) -> None:
    with server.client(token(str(uuid.uuid4()))) as client:
        fresh = client.get("/usage").json()
        client.post("/embed", json={"text": "a"})
        used = [client.get("/usage").json() for _ in range(3)]
    assert fresh["requests"] == {"limit": 1_000_000, "remaining": 1_000_000, "reset_after": 0}
    assert fresh["batch_tokens"] is None
    assert [answer["requests"]["remaining"] for answer in used] == [999_999] * 3
    assert httpx.get(f"{server.url}/usage").status_code == 401


MODEL = "sentence-transformers/all-MiniLM-L6-v2"
FIXED = [
    "/openapi.json", "/schema.json", "/docs", "/docs/swagger.js", "/docs/redoc.standalone.js",
    "/playground", "/playground/main.js", "/playground/settings.json",
]  # fmt: skip


@pytest.mark.parametrize("path", [*FIXED, "/v1/models", f"/v1/models/{MODEL}"])
def test_what_never_changes_is_sent_once_to_a_client_that_keeps_it(
    server: Server, path: str
) -> None:
    with server.client() as client:
        first, again = client.get(path), client.get(path)
        assert first.content == again.content
        tag = first.headers["etag"]
        assert int(first.headers["content-length"]) == len(first.content)
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            kept = client.get(path, headers={"If-None-Match": known})
            assert (kept.status_code, kept.content, kept.headers["etag"]) == (304, b"", tag)
        assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content
        head = client.head(path)
        assert (head.status_code, head.headers["etag"], head.content) == (200, tag, b"")


def test_who_may_not_list_the_models_is_not_told_whether_they_changed(server: Server) -> None:
    assert httpx.get(f"{server.url}/v1/models", headers={"If-None-Match": "*"}).status_code == 401

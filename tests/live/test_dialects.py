"""Routes of other APIs: our vectors and charges, and refusals in their own form."""

import base64
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lab.server import Server, serve, token
from tests.live.occupied import occupied

MODEL = "embeddinggemma-300m"
TEXTS = ["Which planet is red?", "화성은 붉은 행성이다"]
MANY = TEXTS * 100  # their answer comes in pieces
LONG = "word " * 3000
# By route: the field of the texts, and what else a body needs.
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "/v2/embed": ("texts", {"model": MODEL}),
    "/v1/embed": ("texts", {"model": MODEL}),
    "/api/embed": ("input", {"model": MODEL}),
    "/tei/embed": ("inputs", {}),
    "/tei": ("inputs", {}),
}
every_route = pytest.mark.parametrize("route", ROUTES)


@pytest.fixture(scope="module")
def counting(gemma_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that counts tokens, and serves one request of a user at once."""
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "MODEL_NAME": str(gemma_directory),
        "RATE_LIMIT_PER_MIN": "1000",
        "TOKENS_PER_DAY": "1000000",
        "MAX_CONCURRENT_PER_USER": "1",
    }
    with serve(tmp_path_factory.mktemp("counting") / "log", environment) as running:
        yield running


def body_of(route: str, texts: list[str], **options: Any) -> dict[str, Any]:
    field, needed = ROUTES[route]
    return {field: texts} | needed | options


def post(server: Server, route: str, body: Any, bearer: str | None = None) -> httpx.Response:
    with server.client(bearer) as client:
        return client.post(route, json=body)


def vectors_of(answer: httpx.Response) -> np.ndarray:
    """The float vectors of an answer of any route."""
    assert answer.status_code == 200, answer.text
    content = answer.json()
    rows = content if isinstance(content, list) else content["embeddings"]
    return np.array(rows["float"] if isinstance(rows, dict) else rows, np.float32)


def own(server: Server, texts: list[str], **options: Any) -> Any:
    answer = post(server, "/batch-embed", {"texts": texts} | options)
    assert answer.status_code == 200, answer.text
    return answer.json()["embeddings"]


def message_of(route: str, answer: httpx.Response) -> str:
    """The message of a refusal, in the form of the route's API and in no other."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    content: dict[str, str] = answer.json()
    if route.startswith("/tei"):
        assert content.keys() == {"error", "error_type"}
    else:
        assert content.keys() == ({"error"} if route.startswith("/api") else {"message"})
    message = content.get("message") or content["error"]
    assert isinstance(message, str)
    return message


@every_route
@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS, MANY], ids=["one", "two", "many"])
def test_a_route_gives_the_vectors_of_our_own(
    gemma_server: Server, route: str, texts: list[str]
) -> None:
    found = vectors_of(post(gemma_server, route, body_of(route, texts)))
    np.testing.assert_array_equal(found, np.array(own(gemma_server, texts), np.float32))


def test_ollamas_earlier_route_gives_the_same(gemma_server: Server) -> None:
    options = {"overflow": "average"}
    for text in (TEXTS[0], LONG):
        body = {"model": f"{MODEL}-query:latest", "prompt": text} | options
        answer = post(gemma_server, "/api/embeddings", body).json()
        assert [answer["embedding"]] == own(gemma_server, [text], task="query", **options)


@pytest.mark.parametrize(
    ("route", "options", "ours"),
    [
        ("/v2/embed", {"input_type": "search_document"}, {"task": "document"}),
        ("/v2/embed", {"output_dimension": 128}, {"dimensions": 128}),
        ("/v1/embed", {"input_type": "clustering"}, {"task": "clustering"}),
        ("/api/embed", {"model": f"{MODEL}-document:latest"}, {"task": "document"}),
        ("/api/embed", {"dimensions": 256, "options": {"num_ctx": 8}}, {"dimensions": 256}),
        ("/tei/embed", {"prompt_name": "Retrieval-query"}, {"task": "query"}),
        ("/tei/embed", {"dimensions": 128, "normalize": True}, {"dimensions": 128}),
    ],
)
def test_options_mean_the_same_as_ours(
    gemma_server: Server, route: str, options: dict[str, Any], ours: dict[str, Any]
) -> None:
    found = vectors_of(post(gemma_server, route, body_of(route, TEXTS, **options)))
    np.testing.assert_array_equal(found, np.array(own(gemma_server, TEXTS, **ours), np.float32))


def test_coheres_types_are_our_encodings(gemma_server: Server) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    body = body_of("/v2/embed", TEXTS, embedding_types=types)
    found = post(gemma_server, "/v2/embed", body).json()["embeddings"]
    assert list(found) == types
    for name, ours in {"int8": "int8", "ubinary": "binary", "base64": "base64"}.items():
        assert found[name] == own(gemma_server, TEXTS, encoding_format=ours)
    assert np.array_equal(np.array(found["uint8"]) - 128, found["int8"])
    assert np.array_equal(np.array(found["ubinary"]) - 128, found["binary"])
    decoded = [np.frombuffer(base64.b64decode(row), "<f4") for row in found["base64"]]
    assert np.array_equal(decoded, np.array(found["float"], np.float32))


@pytest.mark.parametrize(
    ("route", "option"),
    [
        ("/v2/embed", {"truncate": "NONE"}),
        ("/api/embed", {"truncate": False}),
        ("/tei/embed", {"truncate": False}),
    ],
)
def test_a_text_that_is_too_long_is_cut_or_refused(
    gemma_server: Server, route: str, option: dict[str, Any]
) -> None:
    cut = vectors_of(post(gemma_server, route, body_of(route, [LONG])))
    np.testing.assert_array_equal(cut, np.array(own(gemma_server, [LONG]), np.float32))
    refused = post(gemma_server, route, body_of(route, [LONG], **option))
    assert refused.status_code == 422
    assert "the limit is 1024" in message_of(route, refused)


@every_route
def test_a_long_text_is_read_in_windows_where_that_is_asked_for(
    gemma_server: Server, route: str
) -> None:
    body = body_of(route, [TEXTS[0], LONG], overflow="average")
    found = vectors_of(post(gemma_server, route, body))
    ours = own(gemma_server, [TEXTS[0], LONG], overflow="average")
    np.testing.assert_array_equal(found, np.array(ours, np.float32))
    assert not np.array_equal(found[1:], np.array(own(gemma_server, [LONG]), np.float32))


@pytest.mark.parametrize(
    ("route", "option"),
    [("/v2/embed", {"truncate": "START"}), ("/tei/embed", {"truncation_direction": "Left"})],
)
def test_a_long_text_is_cut_at_its_start_where_that_is_asked_for(
    gemma_server: Server, route: str, option: dict[str, Any]
) -> None:
    texts = [f"{start} {LONG}" for start in ("A first sentence.", "Quite another one.")]
    first, second = vectors_of(post(gemma_server, route, body_of(route, texts, **option)))
    np.testing.assert_array_equal(first, second)
    first, second = vectors_of(post(gemma_server, route, body_of(route, texts)))
    assert not np.array_equal(first, second)
    kept, *_ = vectors_of(post(gemma_server, route, body_of(route, ["short", *texts], **option)))
    np.testing.assert_array_equal(kept, np.array(own(gemma_server, ["short"])[0], np.float32))


@every_route
def test_a_route_costs_the_tokens_of_our_own(counting: Server, route: str) -> None:
    user = token(str(uuid.uuid4()))

    def left() -> int:
        headers = {"Authorization": f"Bearer {user}"}
        usage = httpx.get(f"{counting.url}/usage", headers=headers).json()
        return int(usage["tokens"]["remaining"])

    before = left()
    with counting.client(user) as client:
        client.headers["Cache-Control"] = "no-store"
        client.post("/batch-embed", json={"texts": TEXTS})
        after = left()
        answer = client.post(route, json=body_of(route, TEXTS))
    assert before - after == after - left() > 0
    assert answer.headers["x-ratelimit-limit"] == "1000"


@every_route
def test_refusals_of_the_gate_have_the_form_of_the_route(counting: Server, route: str) -> None:
    body = body_of(route, TEXTS)
    denied = post(counting, route, body, "nonsense")
    assert denied.status_code == 401
    assert "JSON Web Token" in message_of(route, denied)
    assert denied.headers["www-authenticate"].startswith("Bearer")
    with counting.client() as client:
        assert message_of(route, client.get(route))
        assert message_of(route, client.post(route, content=b"{}")).startswith("Send JSON")
        malformed = client.post(route, content=b"{", headers={"Content-Type": "application/json"})
    assert (malformed.status_code, bool(message_of(route, malformed))) == (400, True)


@every_route
def test_one_request_too_many_is_told_when_to_come_back(counting: Server, route: str) -> None:
    user = str(uuid.uuid4())
    with occupied(counting, user):
        busy = post(counting, route, body_of(route, TEXTS), token(user))
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert "being served" in message_of(route, busy)
    if route.startswith("/tei"):
        assert busy.json()["error_type"] == "Overloaded"


@every_route
def test_a_body_over_the_limit_is_refused_in_the_form_of_the_route(
    counting: Server, route: str
) -> None:
    """Only the head is sent; the answer comes all the same."""
    head = f"POST {route} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 209715200\r\n\r\n"
    address = ("127.0.0.1", httpx.URL(counting.url).port or 0)
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(head.encode())
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    head, _, content = answer.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 413")
    told = httpx.Response(
        413,
        content=content,
        headers=dict(line.split(": ", 1) for line in head.splitlines()[1:]),
    )
    assert "larger than" in message_of(route, told)


@pytest.mark.parametrize("route", ["/v2/chat", "/api/pull", "/api/generate", "/tei/rerank"])
def test_what_does_not_exist_is_404_in_the_form_of_its_api(counting: Server, route: str) -> None:
    answer = post(counting, route, {})
    assert answer.status_code == 404
    assert message_of(route, answer)


@pytest.mark.parametrize("route", ["/v2/embed", "/v1/embed", "/api/embed"])
def test_another_model_is_404_with_the_names_there_are(counting: Server, route: str) -> None:
    answer = post(counting, route, body_of(route, TEXTS, model="llama3"))
    assert answer.status_code == 404
    assert MODEL in message_of(route, answer)


@every_route
def test_more_texts_than_the_limit_are_refused(counting: Server, route: str) -> None:
    answer = post(counting, route, body_of(route, ["a"] * 2049))
    assert answer.status_code == 422
    assert "2048" in message_of(route, answer)


def test_ollamas_clients_find_the_model(gemma_server: Server) -> None:
    with gemma_server.client() as client:
        assert client.get("/api/version").json()["version"]
        names = [model["model"] for model in client.get("/api/tags").json()["models"]]
        shown = [client.post("/api/show", json={"model": name}).json() for name in names]
    assert names[0] == f"{MODEL}:latest"
    assert shown[0]["capabilities"] == ["embedding"]
    architecture = shown[0]["model_info"]["general.architecture"]
    assert shown[0]["model_info"][f"{architecture}.embedding_length"] == 768


def test_teis_clients_find_the_limits(gemma_server: Server) -> None:
    with gemma_server.client() as client:
        info = client.get("/tei/info").json()
    assert (info["max_input_length"], info["max_client_batch_size"]) == (1024, 2048)
    assert httpx.get(f"{gemma_server.url}/tei/health").status_code == 200
    assert httpx.get(f"{gemma_server.url}/tei/info").status_code == 401

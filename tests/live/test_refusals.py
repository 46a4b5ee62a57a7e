"""Bad input, bad tokens, too much: each gets the one envelope, and says what to do."""

import json
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from lab.server import SECRET, Server, serve, token

ENVELOPE = {"message", "type", "code", "param"}


def post(
    server: Server, path: str = "/embed", *, bearer: str | None = None, **arguments: object
) -> httpx.Response:
    with server.client(bearer) as client:
        return client.post(path, **arguments)  # type: ignore[arg-type]


def assert_error(answer: httpx.Response, status: int) -> dict[str, str | None]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error: dict[str, str | None] = answer.json()["error"]
    assert error.keys() == ENVELOPE
    assert error["message"]
    return error


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/embed", b"{", 400, None),
        ("/embed", b"", 400, None),
        ("/embed", b"\xff\xfe", 400, None),
        ("/embed", b'{"text": "\\ud800"}', 400, None),
        ("/embed", b"[]", 422, None),
        ("/embed", b"{}", 422, "text"),
        ("/embed", b'{"text": ""}', 422, "text"),
        ("/embed", b'{"text": null}', 422, "text"),
        ("/embed", b'{"text": 5}', 422, "text"),
        ("/embed", b'{"text": ["a"]}', 422, "text"),
        ("/embed", b'{"text": "a", "texts": ["b"]}', 422, "texts"),
        ("/batch-embed", b'{"texts": []}', 422, "texts"),
        ("/batch-embed", b'{"texts": "a"}', 422, "texts"),
        ("/batch-embed", b'{"texts": ["a", ""]}', 422, "texts.1"),
        ("/batch-embed", b'{"texts": ["a", null]}', 422, "texts.1"),
        ("/batch-embed", json.dumps({"texts": ["a"] * 2049}).encode(), 422, "texts"),
    ],
)
def test_a_body_that_does_not_fit_says_where(
    server: Server, path: str, body: bytes, status: int, param: str | None
) -> None:
    error = assert_error(post(server, path, content=body, headers=JSON), status)
    assert error["param"] == param


def test_a_body_in_latin_1_is_told_to_be_utf_8_and_a_byte_order_mark_is_skipped(
    server: Server,
) -> None:
    error = assert_error(
        post(server, content='{"text": "café"}'.encode("latin-1"), headers=JSON), 400
    )
    assert "Send JSON in UTF-8" in str(error["message"])
    spelt = {"Content-Type": "application/json; charset=utf8;"}
    assert (
        post(server, content='{"text": "café"}'.encode("utf-8-sig"), headers=spelt).status_code
        == 200
    )


@pytest.mark.parametrize(("depth", "status"), [(5_000, 400), (100_000, 422)])
def test_deeply_nested_json_is_refused(server: Server, depth: int, status: int) -> None:
    assert_error(post(server, content=b'{"text":' + b"[" * depth, headers=JSON), status)


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    """Only the head is sent; the answer comes all the same."""
    with socket.create_connection(
        ("127.0.0.1", httpx.URL(server.url).port or 0), timeout=10
    ) as connection:
        head = f"POST /embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 209715200\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(server: Server) -> None:
    chunks = (b" " * 65536 for _ in range(129))
    answer = post(server, content=chunks, headers=JSON)
    assert_error(answer, 413)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/vnd.bentoml+pickle"],
)
def test_another_content_type_is_refused(server: Server, content_type: str) -> None:
    assert_error(
        post(server, content=b'{"text": "a"}', headers={"Content-Type": content_type}), 415
    )


@pytest.mark.parametrize(
    "path", ["/nothing", "/embed/", "/EMBED", "/static_content/index.css", "/docs.json"]
)
def test_an_unknown_path_is_404(server: Server, path: str) -> None:
    assert_error(post(server, path, json={"text": "a"}), 404)


@pytest.mark.parametrize(
    "path", ["/v1//embeddings", "/v1/embeddings/", "/v1/v1/embeddings", "/embeddings"]
)
def test_a_path_that_is_nearly_right_is_told_the_right_one(server: Server, path: str) -> None:
    assert "Call /v1/embeddings" in str(assert_error(post(server, path, json={}), 404)["message"])


def test_a_token_that_is_too_large_is_431(server: Server) -> None:
    error = assert_error(
        post(server, bearer=token(app_metadata="x" * 8192), json={"text": "a"}), 431
    )
    assert error["code"] == "token_too_large"


def test_another_method_is_405_and_names_the_right_one(server: Server) -> None:
    with server.client() as client:
        answer = client.get("/embed")
    assert_error(answer, 405)
    assert "POST" in answer.headers["allow"]


def test_no_token_is_401(server: Server) -> None:
    answer = httpx.post(f"{server.url}/embed", json={"text": "a"})
    assert_error(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


ANON_KEY_CLAIMS: dict[str, Any] = {
    "iss": "supabase",
    "ref": "abcdefghijklmnopqrst",
    "role": "anon",
    "sub": None,
    "aud": None,
}


@pytest.mark.parametrize(
    ("bearer", "status"),
    [
        ("not-a-token", 401),
        (token(exp=int(time.time()) - 3600), 401),
        (token(exp=None), 401),
        (token(aud="other"), 401),
        (token(sub="not-a-uuid"), 401),
        (token()[:-4] + "AAAA", 401),
        (token(**ANON_KEY_CLAIMS), 403),
        (token(role="service_role"), 403),
    ],
    ids=[
        "garbage",
        "expired",
        "no exp",
        "audience",
        "subject",
        "signature",
        "anon key",
        "service role",
    ],
)
def test_a_token_that_is_not_a_users_is_refused(server: Server, bearer: str, status: int) -> None:
    assert_error(post(server, bearer=bearer, json={"text": "a"}), status)


def test_the_limit_is_exact_and_says_when_to_come_back(
    tmp_path: Path, model_store: Path, redis_url: str
) -> None:
    user = "6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a00ff"
    environment = {"MODEL_QUANTIZATION": "fp32", "REDIS_URL": redis_url, "RATE_LIMIT_PER_MIN": "3"}
    with serve(tmp_path / "log", environment) as server:
        answers = [post(server, bearer=token(user), json={"text": "a"}) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers[:3]] == [
            "2",
            "1",
            "0",
        ]
        assert_error(answers[3], 429)
        assert 0 < int(answers[3].headers["retry-after"]) <= 60
        other = "6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a00fe"
        assert post(server, bearer=token(other), json={"text": "a"}).status_code == 200
        assert SECRET not in server.log()


def test_a_user_is_blocked_and_let_in_again_within_seconds(
    tmp_path: Path, model_store: Path, redis_url: str
) -> None:
    always, user = str(uuid.uuid4()), str(uuid.uuid4())
    environment = {"MODEL_QUANTIZATION": "fp32", "REDIS_URL": redis_url}
    environment |= {"RATE_LIMIT_PER_MIN": "1000", "BLOCKED_USERS": always}

    def until(status: int) -> httpx.Response:
        deadline = time.monotonic() + 10
        while True:
            answer = post(server, bearer=token(user), json={"text": "a"})
            if answer.status_code == status or time.monotonic() > deadline:
                return answer

    with serve(tmp_path / "log", environment) as server, Redis.from_url(redis_url) as redis:
        refused = assert_error(post(server, bearer=token(always), json={"text": "a"}), 403)
        assert refused["code"] == "user_blocked"
        assert until(200).status_code == 200
        redis.sadd("blocked_users", user)
        assert_error(until(403), 403)
        redis.srem("blocked_users", user)
        assert until(200).status_code == 200
        assert 'decision="user_blocked"' in httpx.get(f"{server.url}/metrics").text


def test_a_call_costs_a_request_whatever_its_body_and_tokens_only_for_vectors(
    tmp_path: Path, model_store: Path, redis_url: str
) -> None:
    user = token(str(uuid.uuid4()))
    environment = {"MODEL_QUANTIZATION": "fp32", "REDIS_URL": redis_url, "TOKENS_PER_DAY": "100"}
    calls: list[tuple[str, dict[str, Any], int]] = [
        ("/embed", {"content": b"{", "headers": JSON}, 400),
        ("/embed", {"json": {"txt": "a"}}, 422),
        ("/tokenize", {"json": {"texts": ["word word"]}}, 200),
        ("/embed", {"json": {"text": "word " * 200}}, 429),
        ("/embed", {"json": {"text": "word word"}}, 200),
    ]
    with serve(tmp_path / "log", environment) as server:
        answers = [post(server, path, bearer=user, **call) for path, call, _ in calls]
        usage = httpx.get(f"{server.url}/usage", headers={"Authorization": f"Bearer {user}"}).json()
    assert [answer.status_code for answer in answers] == [status for *_, status in calls]
    left = [answer.headers["x-ratelimit-remaining"] for answer in answers]
    assert left == ["9", "8", "7", "6", "5"]
    assert [
        answer.headers["ratelimit"].rpartition("r=")[2].split(";")[0] for answer in answers
    ] == [
        "100",
        "100",
        "100",
        "100",
        "96",
    ]
    assert (usage["requests"]["remaining"], usage["tokens"]["remaining"]) == (5, 96)

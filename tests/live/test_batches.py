"""Batches by OpenAI's unmodified client, on the real service with a real Redis."""

import hashlib
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from auth.service_key_format import new_key
from batching import FRESH
from lab.redis_server import RedisServer
from lab.server import CACHE, ROOT, Server, bare_environment, serve, token
from tests.live.client_texts import MODEL
from tests.live.conftest import PLENTY
from tests.live.test_lifecycle import wait_for_another_than, worker
from tests.printed import blocks

FILE_BYTES = 3_000_000
LIMITED = new_key()  # may spend 100 tokens a day
KEYS = f"limited:{hashlib.sha256(LIMITED.encode()).hexdigest()}:requests=none:tokens=100"
WINDOW: Any = "24h"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def batching(
    tmp_path_factory: pytest.TempPathFactory, model_store: Path, redis_server: RedisServer
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("batching")
    environment = (
        PLENTY
        | CACHE
        | {
            "REDIS_URL": redis_server.url,
            "MODEL_QUANTIZATION": "fp32",
            "BATCH_DIRECTORY": str(directory / "batches"),
            "BATCH_FILE_BYTES": str(FILE_BYTES),
            "BATCH_BYTES_PER_USER": "40000000",
            "BATCH_TOKENS_PER_DAY": "1000000",
            "SERVICE_KEYS": KEYS,
        }
    )
    with serve(directory / "log", environment) as running:
        yield running


def client_of(server: Server, user: str | None = None, *, key: str | None = None) -> openai.OpenAI:
    bearer = key or token(user or str(uuid.uuid4()))
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=bearer, max_retries=0)


def line(custom_id: str, text: Any, **options: Any) -> bytes:
    body = {"model": MODEL, "input": text, **options}
    fields = {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}
    return json.dumps(fields).encode() + b"\n"


def begun(client: openai.OpenAI, content: bytes, window: str = WINDOW, **more: Any) -> Batch:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/embeddings",
        completion_window=window,  # type: ignore[arg-type]
        **more,
    )


def when(client: openai.OpenAI, batch: Batch, holds: Callable[[Batch], bool]) -> Batch:
    deadline = time.monotonic() + 60
    while not holds(batch):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    ends = ("completed", "failed", "expired", "cancelled")
    return when(client, batch, lambda now: now.status in ends)


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def told(client: openai.OpenAI, batch: Batch) -> list[str]:
    """custom_ids of the answers and errors of a batch."""
    found = (batch.output_file_id, batch.error_file_id)
    return [line["custom_id"] for file_id in found for line in lines_of(client, file_id)]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"encoding_format": "base64"},
    {"encoding_format": "int8"},
    {"overflow": "average"},
    {"user": "me", "encoding_format": "binary"},
]


def test_answers_are_those_of_the_live_route_byte_for_byte(batching: Server) -> None:
    texts: list[Any] = ["still here", ["one", "two", "one"], "안녕하세요", "word " * 600, "x"]
    bodies = [
        json.loads(line(str(number), texts[number % 5], **OPTIONS[number // 5]))["body"]
        for number in range(25)
    ]
    content = b"".join(
        line(str(number), body.pop("input"), **{k: v for k, v in body.items() if k != "model"})
        for number, body in enumerate(map(dict, bodies))
    )
    client = client_of(batching)
    done = ended(client, begun(client, content, metadata={"for": "test"}))
    assert done.status == "completed"
    assert done.error_file_id is None
    assert done.metadata == {"for": "test"}
    assert (done.request_counts and done.request_counts.completed) == 25
    assert done.output_file_id is not None
    answers = client.files.content(done.output_file_id).content.splitlines()
    with batching.client(token(str(uuid.uuid4()))) as live:
        for number, (answer, body) in enumerate(zip(answers, bodies, strict=True)):
            parsed = json.loads(answer)
            assert (parsed["custom_id"], parsed["error"]) == (str(number), None)
            assert parsed["response"]["status_code"] == 200
            start = answer.index(b'"body":') + len(b'"body":')
            assert (
                answer[start : -len(b'},"error":null}')]
                == live.post("/v1/embeddings", json=body).content
            )


def test_a_request_that_fails_has_the_error_of_the_live_route(batching: Server) -> None:
    bad: list[dict[str, Any]] = [
        {"model": "gpt", "input": "a"},
        {"model": MODEL, "input": [1, 2]},
        {"model": MODEL, "input": "word " * 600, "overflow": "error"},
        {"model": MODEL, "input": "a", "dimensions": 7},
        {"model": MODEL},
        {"model": MODEL, "input": ""},
    ]
    content = line("good", "a") + b"".join(
        json.dumps(
            {"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body}
        ).encode()
        + b"\n"
        for number, body in enumerate(bad)
    )
    client = client_of(batching)
    done = ended(client, begun(client, content))
    assert done.status == "completed"
    assert [line["custom_id"] for line in lines_of(client, done.output_file_id)] == ["good"]
    errors = lines_of(client, done.error_file_id)
    with batching.client() as live:
        for body, error in zip(bad, errors, strict=True):
            answer = live.post("/v1/embeddings", json=body)
            assert error["response"]["status_code"] == answer.status_code >= 400
            assert error["response"]["body"] == answer.json()


def test_files_and_batches_are_there_for_their_owner_alone(batching: Server) -> None:
    client, other = client_of(batching), client_of(batching)
    batch = ended(client, begun(client, line("a", "still here")))
    file_id = batch.input_file_id
    for refused in (
        lambda: other.files.retrieve(file_id),
        lambda: other.files.content(file_id),
        lambda: other.files.delete(file_id),
        lambda: other.batches.retrieve(batch.id),
        lambda: other.batches.cancel(batch.id),
        lambda: other.batches.create(
            input_file_id=file_id, endpoint="/v1/embeddings", completion_window=WINDOW
        ),
        lambda: client.files.retrieve("file-" + "0" * 32),
        lambda: client.batches.retrieve("batch_" + "0" * 32),
    ):
        with pytest.raises(openai.NotFoundError):
            refused()
    assert batch.id not in {found.id for found in other.batches.list()}
    assert client.files.content(file_id).content == line("a", "still here")


def test_files_are_listed_in_pages_and_deleted(batching: Server) -> None:
    client = client_of(batching)
    made = [
        client.files.create(file=(f"{number}.jsonl", b"x" * number), purpose="batch")
        for number in range(5)
    ]
    assert [(file.filename, file.bytes) for file in made[:2]] == [("0.jsonl", 0), ("1.jsonl", 1)]
    newest_first = [file.id for file in made][::-1]
    assert [file.id for file in client.files.list(limit=2)] == newest_first
    assert [file.id for file in client.files.list(order="asc")] == newest_first[::-1]
    assert [file.id for file in client.files.list(purpose="other")] == []
    assert client.files.delete(made[0].id).deleted
    assert made[0].id not in {file.id for file in client.files.list()}


def test_batches_are_listed_in_pages(batching: Server) -> None:
    client = client_of(batching)
    made = [begun(client, line("a", f"text number {number}")).id for number in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"endpoint": "/v1/chat/completions"}, openai.UnprocessableEntityError),
        ({"completion_window": "soon"}, openai.UnprocessableEntityError),
        ({"completion_window": "200h"}, openai.UnprocessableEntityError),
        ({"metadata": {"a": "b" * 513}}, openai.UnprocessableEntityError),
        ({"input_file_id": "file-1"}, openai.NotFoundError),
    ],
)
def test_a_batch_that_cannot_be_is_refused(
    batching: Server, changes: dict[str, Any], error: type[Exception]
) -> None:
    client = client_of(batching)
    file = client.files.create(file=("in.jsonl", line("a", "x")), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    with pytest.raises(error, match=next(iter(changes)) if "file" not in str(changes) else "file"):
        client.batches.create(**asked | changes)


def test_a_file_with_a_bad_line_fails_the_batch_and_says_where(batching: Server) -> None:
    client = client_of(batching)
    failed = ended(client, begun(client, line("a", "x") + b"{\n" + line("a", "y")))
    assert failed.status == "failed"
    assert failed.errors is not None
    assert [(error.code, error.line) for error in failed.errors.data or []] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
    ]


@pytest.mark.parametrize(
    ("content", "purpose", "status", "code"),
    [
        (b"x" * (FILE_BYTES + 1), "batch", 413, "file_too_large"),
        (b"x", "fine-tune", 422, "invalid_request"),
    ],
)
def test_an_upload_that_is_not_taken_is_told_why(
    batching: Server, content: bytes, purpose: Any, status: int, code: str
) -> None:
    client = client_of(batching)
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=("in.jsonl", content), purpose=purpose)
    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert list(client.files.list()) == []


def test_a_users_files_are_bounded_and_deleting_one_makes_room(batching: Server) -> None:
    client = client_of(batching)
    content = b"x" * FILE_BYTES
    files = [client.files.create(file=("a", content), purpose="batch") for _ in range(13)]
    with pytest.raises(openai.APIStatusError, match="Delete files") as refused:
        client.files.create(file=("a", content), purpose="batch")
    assert refused.value.code == "file_quota"
    client.files.delete(files[0].id)
    for file in [*files[1:], client.files.create(file=("a", content), purpose="batch")]:
        client.files.delete(file.id)


MANY_LINES = 600
MANY = b"".join(line(str(number), f"word word {number} " * 8) for number in range(MANY_LINES))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_loses_no_request_and_answers_none_twice(
    batching: Server, redis_server: RedisServer, number: signal.Signals
) -> None:
    user = str(uuid.uuid4())
    client = client_of(batching, user)
    batch = begun(client, MANY)
    batch = when(client, batch, lambda now: counts(now) > 0)
    assert batch.status == "in_progress"
    gone = worker(batching)
    gone.send_signal(number)
    wait_for_another_than(gone, batching, 60)
    batching.wait_until_ready()
    done = ended(client, batch)
    assert done.status == "completed"
    assert told(client, done) == [str(number) for number in range(MANY_LINES)]
    assert done.usage is not None
    used = tokens_of(redis_server, user)
    assert used <= done.usage.input_tokens
    assert used > done.usage.input_tokens * (0.8 if number == signal.SIGKILL else 0.999)


def counts(batch: Batch) -> int:
    return batch.request_counts.completed if batch.request_counts else 0


def tokens_of(redis_server: RedisServer, user: str) -> int:
    """What Redis has charged to the batches of a user."""
    answer = redis_server.command("HGET", f"quota:batches:{{{user}}}:tokens", "used")
    return int(answer.split(b"\r\n")[1])


def test_a_cancelled_batch_keeps_its_answers(batching: Server) -> None:
    client = client_of(batching)
    batch = when(client, begun(client, MANY), lambda now: counts(now) > 0)
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, batch)
    assert done.status == "cancelled"
    answers = lines_of(client, done.output_file_id)
    errors = lines_of(client, done.error_file_id)
    assert 0 < len(answers) < MANY_LINES
    assert len(told(client, done)) == MANY_LINES == len(set(told(client, done)))
    assert {error["error"]["code"] for error in errors} == {"batch_cancelled"}
    with pytest.raises(openai.BadRequestError):
        client.batches.cancel(batch.id)


def test_a_batch_that_takes_longer_than_its_window_expires(batching: Server) -> None:
    client = client_of(batching)
    done = ended(client, begun(client, MANY, window="1s"))
    assert done.status == "expired"
    assert done.expired_at is not None
    assert len(told(client, done)) == MANY_LINES == len(set(told(client, done)))
    errors = lines_of(client, done.error_file_id)
    assert {error["error"]["code"] for error in errors} == {"batch_expired"}


def test_tokens_of_batches_are_counted_apart_and_a_batch_waits_for_more(batching: Server) -> None:
    client = client_of(batching, key=LIMITED)
    content = b"".join(line(str(number), f"word {number}") for number in range(40))
    batch = begun(client, content)
    batch = when(client, batch, lambda now: counts(now) > 0)
    time.sleep(0.5)
    waiting = client.batches.retrieve(batch.id)
    assert waiting.status == "in_progress"
    assert waiting.usage is not None
    assert 90 < waiting.usage.input_tokens <= 100
    with batching.client(LIMITED) as caller:
        usage = caller.get("/usage").json()["tokens"]
        assert (usage["limit"], usage["remaining"]) == (100, 100)
    client.batches.cancel(batch.id)
    assert ended(client, batch).status == "cancelled"


def test_the_printed_program_gets_its_answers(batching: Server, tmp_path: Path) -> None:
    found = blocks(ROOT / "docs" / "batches.md")
    [program] = [block.text for block in found if block.language == "python"]
    [request] = [block.text for block in found if block.language == "json"]
    (tmp_path / "requests.jsonl").write_text(request)
    program = program.replace("http://127.0.0.1:8000", batching.url)
    program = program.replace("sleep(60)", "sleep(0.1)") + "print(answers[0])"
    environment = bare_environment() | {"JWT_TOKEN": token(str(uuid.uuid4()))}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout)["response"]["status_code"] == 200


JAVASCRIPT = """
import { readFileSync, writeFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";
const [url, apiKey, path] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });
const content = await toFile(readFileSync(path), "requests.jsonl");
const file = await client.files.create({ file: content, purpose: "batch" });
let batch = await client.batches.create({
  input_file_id: file.id, endpoint: "/v1/embeddings", completion_window: "24h",
});
while (["validating", "in_progress", "finalizing"].includes(batch.status)) {
  await new Promise((done) => setTimeout(done, 50));
  batch = await client.batches.retrieve(batch.id);
}
const answers = await (await client.files.content(batch.output_file_id)).text();
const files = [];
for await (const one of client.files.list({ limit: 1 })) files.push(one.purpose);
await client.files.delete(file.id);
console.log(JSON.stringify({ status: batch.status, answers, files }));
"""


def test_javascripts_client_runs_a_batch(
    batching: Server, javascript: Path, tmp_path: Path
) -> None:
    script = javascript / "batch.mjs"
    script.write_text(JAVASCRIPT)
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(line("a", "still here") + line("b", ["one", "두 번째"]))
    command = ["node", str(script), batching.url, token(str(uuid.uuid4())), str(requests)]
    ran = subprocess.run(
        command, env=bare_environment(), capture_output=True, text=True, check=True
    )
    said = json.loads(ran.stdout)
    assert (said["status"], said["files"]) == ("completed", ["batch_output", "batch"])
    answers = [json.loads(answer) for answer in said["answers"].splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["a", "b"]
    assert [len(answer["response"]["body"]["data"]) for answer in answers] == [1, 2]


def test_each_call_costs_one_request(batching: Server) -> None:
    with batching.client(token(str(uuid.uuid4()))) as caller:
        first = caller.get("/v1/files")
        second = caller.get("/v1/batches/batch_1")
        left = [int(answer.headers["x-ratelimit-remaining"]) for answer in (first, second)]
    assert (first.status_code, second.status_code) == (200, 404)
    assert left[0] - left[1] == 1


@pytest.mark.parametrize("path", ["/v1/files/a/b", "/v1/files/", "/v1/batches/a/content", "/v1/f"])
def test_paths_that_are_not_there_are_refused_without_a_token(batching: Server, path: str) -> None:
    answer = httpx.get(f"{batching.url}{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "path_not_found")


def test_without_a_directory_every_route_says_that_batches_are_off(one_at_a_time: Server) -> None:
    client = client_of(one_at_a_time)
    for call in (
        lambda: client.files.create(file=("a", b"x" * 100_000), purpose="batch"),
        lambda: client.files.list(),
        lambda: client.batches.list(),
    ):
        with pytest.raises(openai.NotFoundError, match="BATCH_DIRECTORY"):
            call()


def test_the_document_describes_the_routes_of_batches(batching: Server) -> None:
    paths = httpx.get(f"{batching.url}/openapi.json").json()["paths"]
    assert "/v1/batches/{batch_id}" in paths
    assert paths["/v1/files/{file_id}"].keys() == {"get", "delete"}


def test_metrics_tell_of_batches_by_status(batching: Server) -> None:
    client = client_of(batching)
    ended(client, begun(client, line("a", "x")))
    time.sleep(FRESH)
    metrics = httpx.get(f"{batching.url}/metrics").text
    values = dict(found.rsplit(" ", 1) for found in metrics.splitlines() if found[:1] != "#")
    assert float(values['embed_batches{status="completed"}']) >= 1
    assert float(values["embed_batches_waiting_requests"]) == 0
    assert float(values['embed_batches_requests_total{result="succeeded"}']) >= 1
    assert 0 < float(values["embed_batches_bytes"]) < float(values["embed_batches_bytes_limit"])
    assert float(values["embed_batches_stalled_seconds"]) < 10
    routes = {found for found in values if "/v1/files/{file_id}/content" in found}
    assert routes
    assert not [found for found in values if "file-" in found]

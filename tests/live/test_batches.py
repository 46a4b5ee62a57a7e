"""Batches by OpenAI's unmodified clients, on the real service with a real Redis."""

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from batching import FRESH
from lab.server import ROOT, Server, bare_environment, token
from tests.live.batch_calls import FILE_BYTES, WINDOW, begun, client_of, ended, line, lines_of
from tests.live.client_texts import MODEL
from tests.printed import blocks

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

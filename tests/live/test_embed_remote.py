"""Jobs through a live service with real limits."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.server import Server, serve, token
from tests.live import bulk
from tests.live.conftest import PLENTY

OPTIONS = ("--id", "id", "--part-rows", "20")
# One request at a time, of ten texts and 4,000 bytes: a part needs several, and each limit refuses
# some.
TIGHT = {
    "MODEL_QUANTIZATION": "fp32",
    "MAX_CONCURRENT_PER_USER": "1",
    "MAX_TEXTS_PER_REQUEST": "10",
    "MAX_BODY_BYTES": "4000",
}


from_source = pytest.mark.parametrize("server", ["source"], indirect=True)


@pytest.fixture(scope="module")
def tight(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("tight") / "log", PLENTY | TIGHT) as running:
        yield running


def refused(server: Server) -> set[str]:
    """Why the service refused batches so far."""
    with server.client() as client:
        metrics = client.get("/metrics").text
    return set(re.findall(r'embed_errors_total\{reason="(\w+)",route="/batch-embed"\}', metrics))


@from_source
def test_a_job_lives_with_every_limit_and_goes_on_after_kill_9(
    tight: Server, server: Server, tmp_path: Path
) -> None:
    texts = bulk.write_corpus(tmp_path / "corpus", 100)
    (tmp_path / "corpus" / "e.jsonl").write_text(
        '{"id": "huge", "text": "' + "word " * 2000 + '"}\n'
    )
    short = {
        f"short-{n}": f"short {n}" for n in range(12)
    }  # few bytes, and more texts than one request may have
    lines = [json.dumps({"id": key, "text": text}) + "\n" for key, text in short.items()]
    (tmp_path / "corpus" / "f.jsonl").write_text("".join(lines))
    arguments = ("--concurrency", "3", *OPTIONS)
    output, log = tmp_path / "out", tmp_path / "log"
    job = bulk.start(
        "embed_remote",
        tight.url,
        tmp_path / "corpus",
        output,
        *arguments,
        log=log,
        JWT_TOKEN=token(),
    )
    deadline = time.monotonic() + 60
    while len(bulk.parts(output)) < 1:
        assert job.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    job.kill()
    job.wait()
    assert len(bulk.parts(output)) < 10

    ran = bulk.run(
        "embed_remote",
        tight.url,
        tmp_path / "corpus",
        output,
        *arguments,
        more={"JWT_TOKEN": token()},
    )
    assert ran.returncode == 3, ran.stderr
    bad = (output / "_bad_rows.jsonl").read_text()
    assert bad.count("\n") == len(bulk.BAD)
    assert bulk.vectors(output).keys() == texts.keys() | short.keys() | {"huge"}
    assert refused(tight) >= {"too_many_concurrent", "body_too_large", "invalid_request"}

    untroubled = tmp_path / "untroubled"
    ran = bulk.run(
        "embed_remote",
        server.url,
        tmp_path / "corpus",
        untroubled,
        *OPTIONS,
        "--quiet",
        more={"JWT_TOKEN": token()},
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "", "")
    assert bulk.cosines(bulk.vectors(untroubled), bulk.vectors(output)).min() > 0.999999


def answered(server: Server) -> list[int]:
    """Statuses of the batches so far."""
    lines = [line for line in server.log().splitlines() if '"/batch-embed"' in line]
    return [json.loads(line[line.index("{") :])["status"] for line in lines]


@from_source
def test_a_part_is_one_request_where_the_service_takes_it(server: Server, tmp_path: Path) -> None:
    before = len(answered(server))
    (tmp_path / "a.txt").write_text("".join(f"number {n}\n" for n in range(2 * 2048)))
    more = {"JWT_TOKEN": token()}
    ran = bulk.run("embed_remote", server.url, tmp_path / "a.txt", tmp_path / "out", more=more)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("4,096 texts (0 truncated, 0 failed)")
    statuses = answered(server)[before:]
    assert statuses.count(200) == 2
    assert set(statuses) <= {200, 429}  # both may be too much at once


@from_source
def test_bodies_are_as_large_as_the_service_takes_them(server: Server, tmp_path: Path) -> None:
    before = len(answered(server))
    texts = [f"{n} " + "word " * 180_000 for n in range(12)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    more = {"JWT_TOKEN": token()}
    ran = bulk.run("embed_remote", server.url, tmp_path / "a.txt", tmp_path / "out", more=more)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("12 texts (12 truncated, 0 failed)")
    assert answered(server)[before:] == [200, 200]


@pytest.mark.parametrize(
    ("options", "environment", "status", "said"),
    [
        ((), {"JWT_TOKEN": "nonsense"}, 1, "put a valid access token in JWT_TOKEN"),
        ((), {}, 2, "set JWT_TOKEN"),
        (
            ("--task", "query"),
            {"JWT_TOKEN": token()},
            2,
            "the service refuses this job: this model has no prompt",
        ),
        (
            ("--dimensions", "7"),
            {"JWT_TOKEN": token()},
            2,
            "dimensions of this model are 384, not 7",
        ),
    ],
)
def test_an_invalid_input_or_option_is_reported_in_one_line(
    tight: Server,
    tmp_path: Path,
    options: tuple[str, ...],
    environment: dict[str, str],
    status: int,
    said: str,
) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    ran = bulk.run(
        "embed_remote",
        tight.url,
        tmp_path / "a.txt",
        tmp_path / "out",
        "--quiet",
        *options,
        more=environment,
    )
    assert ran.returncode == status, ran.stderr
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_size_that_the_model_has_not_is_no_rows_fault(
    gemma_server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Mars", "for": "query"}\n')
    options = ("--task-column", "for", "--dimensions", "100", "--quiet")
    ran = bulk.run(
        "embed_remote",
        gemma_server.url,
        tmp_path / "a.jsonl",
        tmp_path / "out",
        *options,
        more={"JWT_TOKEN": token()},
    )
    assert ran.returncode == 2, ran.stderr
    assert "dimensions of this model are 768, 512, 256, 128, not 100" in ran.stderr


def test_titles_and_tasks_go_to_a_model_that_has_them(gemma_server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": "a", "text": "Mars", "title": "Planet", "for": "document"}\n'
        '{"id": "b", "text": "Mars", "for": "query"}\n'
        '{"id": "c", "text": "Mars"}\n'
        '{"id": "d", "text": "Mars", "for": "nonsense"}\n'
    )
    options = ("--id", "id", "--title", "title", "--task-column", "for", "--quiet")
    ran = bulk.run(
        "embed_remote",
        gemma_server.url,
        tmp_path / "a.jsonl",
        tmp_path / "out",
        *options,
        more={"JWT_TOKEN": token()},
    )
    assert ran.returncode == 3, ran.stderr
    assert "task 'nonsense'" in (tmp_path / "out" / "_bad_rows.jsonl").read_text()
    found = bulk.vectors(tmp_path / "out")
    assert set(found) == {"a", "b", "c"}
    assert len(set(found.values())) == 3

"""Texts over the limit on every route and in jobs: cut, refused, or read in windows."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import pyarrow.parquet as pq
import pytest

from embedder.model import EmbeddingModel
from embedder.overflow import average
from embedder.profile import model_tag
from lab.server import Server, serve, token
from tests.live import bulk
from tests.live.calls import MODEL, answer, every_route, refusal
from tests.live.conftest import PLENTY

LONG = " ".join(f"{n} word" for n in range(1_200))
TEXTS = ["a short text", LONG]
MEGABYTE = "word, " * 170_000


@pytest.fixture(scope="module")
def model(gemma_directory: Path) -> EmbeddingModel:
    """The engine of `gemma_server` without a service, with one thread."""
    tag = model_tag(str(gemma_directory), "fp32", "native")
    return EmbeddingModel.load(Path(bentoml.models.get(tag).path), num_threads=1)


def expected(model: EmbeddingModel, text: str, task: str | None = None) -> np.ndarray:
    prompt = model.profile.tasks[task] if task else ""
    [read] = model.tokenizer.encode(
        [text], prompt=prompt, max_tokens=model.max_tokens, average=True
    )
    assert read.n_windows > 1
    one_by_one = np.concatenate([model.engine.forward([window]) for window in read.windows])
    vector: np.ndarray = average(one_by_one, [read.weights])[0]
    return vector


@pytest.mark.parametrize("task", [None, "query", "document"])
def test_every_route_gives_the_mean_of_the_windows(
    gemma_server: Server, model: EmbeddingModel, task: str | None
) -> None:
    options = {"overflow": "average", **({"task": task} if task else {})}
    for vector in every_route(gemma_server, LONG, **options):
        np.testing.assert_array_equal(np.array(vector, np.float32), expected(model, LONG, task))


def test_a_text_that_fits_has_the_vector_that_it_has_without(gemma_server: Server) -> None:
    assert every_route(gemma_server, TEXTS[0], overflow="average") == every_route(
        gemma_server, TEXTS[0]
    )


def test_every_answer_says_how_many_windows_there_are(gemma_server: Server) -> None:
    counted = answer(gemma_server, "/tokenize", texts=TEXTS, overflow="average")["texts"]
    windows = [text["windows"] for text in counted]
    assert windows[0] == 1
    assert windows[1] > 2
    assert [text["truncated"] for text in counted] == [False, False]

    several = answer(gemma_server, "/batch-embed", texts=TEXTS, overflow="average")
    assert (several["windows"], several["truncated"]) == (windows, [])
    assert several["tokens"] == [len(text["ids"]) for text in counted]
    one = answer(gemma_server, "/embed", text=LONG, overflow="average")
    assert one["windows"] == windows[1]
    data = answer(gemma_server, "/v1/embeddings", model=MODEL, input=TEXTS, overflow="average")
    assert [item["windows"] for item in data["data"]] == windows
    compared = answer(gemma_server, "/similarity", text=LONG, texts=TEXTS, overflow="average")
    assert (compared["text_windows"], compared["windows"]) == (windows[1], windows)
    assert compared["similarities"][1] == pytest.approx(1, abs=1e-6)
    cut = answer(gemma_server, "/similarity", texts=TEXTS)
    assert (cut["text_windows"], cut["windows"], cut["truncated"]) == (0, [1, 1], [1])


def test_all_tokens_of_all_windows_are_charged(gemma_server: Server) -> None:
    counted = answer(gemma_server, "/tokenize", texts=[LONG], task="query", overflow="average")[
        "texts"
    ][0]
    prompt = answer(gemma_server, "/tokenize", texts=["a"], task="query")["texts"][0]["ids"]
    assert len(counted["ids"]) > counted["n_tokens"]
    assert counted["ids"].count(prompt[0]) == counted["windows"]  # <bos>
    body = answer(gemma_server, "/embed", text=LONG, task="query", overflow="average")
    assert body["usage"]["prompt_tokens"] == len(counted["ids"])


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_overflow_error_is_truncate_false(gemma_server: Server, path: str) -> None:
    body = {"text": LONG} if path == "/embed" else {"input": LONG, "model": MODEL}
    refused = [
        refusal(gemma_server, path, **body, **options)
        for options in ({"overflow": "error"}, {"truncate": False})
    ]
    assert refused[0] == refused[1]
    assert refused[0]["code"] == "text_too_long"
    assert '"overflow": "average"' in refused[0]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"text": "a"}),
        ("/batch-embed", {"texts": ["a"]}),
        ("/v1/embeddings", {"input": "a", "model": MODEL}),
        ("/tokenize", {"texts": ["a"]}),
        ("/similarity", {"texts": ["a"]}),
    ],
)
def test_a_contradiction_is_refused_on_every_route(
    gemma_server: Server, path: str, body: Mapping[str, Any]
) -> None:
    error = refusal(gemma_server, path, **body, overflow="average", truncate=True)
    assert (error["code"], error["param"]) == ("invalid_request", "truncate")
    assert "Leave truncate out" in error["message"]


@pytest.fixture(scope="module")
def narrow(gemma_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a small queue and short windows."""
    environment = {
        **PLENTY,
        "MODEL_QUANTIZATION": "fp32",
        "MODEL_NAME": str(gemma_directory),
        "MAX_USER_QUEUE_TOKENS": "4000",
        "MAX_SEQ_LENGTH": "128",
        "TOKENS_PER_DAY": "100000",
    }
    with serve(tmp_path_factory.mktemp("narrow") / "log", environment) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"text": MEGABYTE}),
        ("/tokenize", {"texts": ["a", MEGABYTE]}),
        ("/similarity", {"text": "a", "texts": [MEGABYTE]}),
    ],
)
def test_a_text_of_more_tokens_than_its_user_may_queue_is_refused_and_not_charged(
    narrow: Server, path: str, body: Mapping[str, Any]
) -> None:
    with narrow.client(token(str(uuid.uuid4()))) as client:
        refused = client.post(path, json={**body, "overflow": "average"})
        tokens = client.get("/usage").json()["tokens"]
    assert refused.status_code == 413, refused.text
    assert refused.json()["error"]["code"] == "too_many_tokens"
    assert tokens["remaining"] == tokens["limit"]


def test_windows_count_as_texts_and_a_refusal_says_how_many_texts_fit(narrow: Server) -> None:
    texts = ["word " * 200] * 16
    with narrow.client(token(str(uuid.uuid4()))) as client:
        body = {"texts": texts, "overflow": "average"}
        refused = client.post("/batch-embed", json=body)
        assert refused.status_code == 413, refused.text
        told = re.search(r"its first (\d+) texts fit", refused.json()["error"]["message"])
        assert told is not None
        fit = int(told[1])
        assert 1 < fit < len(texts)
        served = client.post("/batch-embed", json=body | {"texts": texts[:fit]})
        assert served.status_code == 200, served.text
        assert client.post("/batch-embed", json=body | {"texts": texts[: fit + 1]}).is_error
        tokens = client.get("/usage").json()["tokens"]
    assert tokens["limit"] - tokens["remaining"] == served.json()["usage"]["prompt_tokens"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"id": "short", "text": TEXTS[0]}, {"id": "long", "text": LONG}]
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


@pytest.mark.parametrize("command", ["embed_dataset", "embed_remote"])
def test_jobs_have_the_vectors_of_the_service(
    command: str,
    gemma_server: Server,
    gemma_directory: Path,
    model: EmbeddingModel,
    corpus: Path,
    tmp_path: Path,
) -> None:
    where = (gemma_server.url,) if command == "embed_remote" else ()
    more = {
        "MODEL_NAME": str(gemma_directory),
        "MODEL_QUANTIZATION": "fp32",
        "JWT_TOKEN": token(str(uuid.uuid4())),
    }
    options = ("--id", "id", "--overflow", "average")
    ran = bulk.run(command, *where, corpus, tmp_path / "out", *options, more=more)
    assert ran.returncode == 0, ran.stderr
    table = pq.read_table(tmp_path / "out")
    assert table.column("windows").to_pylist()[0] == 1
    assert table.column("windows").to_pylist()[1] > 2
    assert table.column("truncated").to_pylist() == [False, False]
    assert bulk.vectors(tmp_path / "out")["long"] == expected(model, LONG).tobytes()


def test_no_truncate_and_overflow_exclude_each_other(corpus: Path, tmp_path: Path) -> None:
    options = ("--no-truncate", "--overflow", "average")
    ran = bulk.run("embed_dataset", corpus, tmp_path / "out", *options)
    assert ran.returncode == 2
    assert "not allowed with argument" in ran.stderr

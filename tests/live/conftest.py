"""The live servers that tests share: the real service, a real Redis, real tokens."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.browser import Page, browser
from lab.once import made_once
from lab.random_embeddinggemma import TINY, build
from lab.redis_server import RedisServer
from lab.server import CACHE, SOURCE, Server, bare_environment, serve
from tests.live import bulk
from tests.live.batch_calls import BATCHING
from tests.live.client_texts import TEXTS
from tests.live.playground import kept_clean

PLENTY = {
    "RATE_LIMIT_PER_MIN": "1000000",
    "FAILED_AUTH_PER_MIN": "1000000",
    "MAX_CONCURRENT_PER_USER": "64",
}


@pytest.fixture(scope="session")
def bento(shared: Path, model_store: Path) -> str:
    """The service built into a Bento; the tag."""

    def build_bento(home: Path) -> None:
        shutil.copytree(model_store, home, dirs_exist_ok=True)
        command = [str(Path(sys.executable).with_name("bentoml")), "build", "-o", "tag"]
        environment = bare_environment() | {"MODEL_QUANTIZATION": "fp32", "BENTOML_HOME": str(home)}
        built = subprocess.run(
            command, cwd=SOURCE, env=environment, capture_output=True, text=True, check=False
        )
        assert built.returncode == 0, built.stdout + built.stderr
        (home / "tag").write_text(built.stdout.strip().removeprefix("__tag__:"))

    home = made_once(shared / "bento", build_bento)
    shutil.copytree(home / "bentos", model_store / "bentos", dirs_exist_ok=True)
    return (home / "tag").read_text()


@pytest.fixture(scope="session", params=["source", "bento"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    model_store: Path,
    redis_url: str,
) -> Iterator[Server]:
    """The starter model in fp32 with Redis and a limit that no test reaches, from source and Bento.

    The Bento is served elsewhere and is not told which model it holds.
    """
    directory = tmp_path_factory.mktemp("server")
    environment = PLENTY | CACHE | {"REDIS_URL": redis_url}
    if request.param == "bento":
        where: dict[str, Any] = {"target": request.getfixturevalue("bento"), "directory": directory}
    else:
        where, environment = {}, environment | {"MODEL_QUANTIZATION": "fp32"}
    with serve(directory / "log", environment, **where) as running:
        yield running


@pytest.fixture
def expected(server: Server) -> np.ndarray:
    """The vectors of TEXTS by our own route: (n_texts, dimensions)."""
    with server.client() as client:
        return np.array(
            client.post("/batch-embed", json={"texts": TEXTS}).json()["embeddings"], np.float32
        )


@pytest.fixture(scope="session")
def one_at_a_time(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    """A server that serves one request of a user at once; the next gets 429 and Retry-After: 1."""
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "RATE_LIMIT_PER_MIN": "100000",
        "MAX_CONCURRENT_PER_USER": "1",
    }
    environment |= {"MODEL_ALIASES": "text-embedding-3-small, text-embedding-ada-002"}
    with serve(tmp_path_factory.mktemp("one-at-a-time") / "log", environment) as running:
        yield running


@pytest.fixture(scope="session")
def batch_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of `batching`, with the tokens of batches."""
    server = RedisServer(tmp_path_factory.mktemp("batch-redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def batching(
    tmp_path_factory: pytest.TempPathFactory, model_store: Path, batch_redis: RedisServer
) -> Iterator[Server]:
    """The starter model with a directory of batches."""
    directory = tmp_path_factory.mktemp("batching")
    environment = PLENTY | CACHE | BATCHING
    environment |= {"REDIS_URL": batch_redis.url, "BATCH_DIRECTORY": str(directory / "batches")}
    with serve(directory / "log", environment) as running:
        yield running


@pytest.fixture(scope="session")
def gemma_directory(shared: Path, model_store: Path) -> Path:
    """EmbeddingGemma's prompts and sizes with few random weights, prepared in the model store.

    Its heads are EmbeddingGemma's too: an engine that divides 256 values among its threads adds
    them in another order for each number of threads, which smaller heads cannot show.
    """
    made = made_once(shared / "gemma", prepare_gemma)
    shutil.copytree(made / "home", model_store, dirs_exist_ok=True)
    return made / "embeddinggemma-300m"


def prepare_gemma(directory: Path) -> None:
    size = replace(TINY, hidden=768, layers=6, head_dim=256)
    model = build(directory / "embeddinggemma-300m", size)
    environment = os.environ | {"MODEL_QUANTIZATION": "fp32", "MODEL_NAME": str(model)}
    environment |= {"BENTOML_HOME": str(directory / "home")}
    subprocess.run([sys.executable, "download_model.py"], cwd=SOURCE, env=environment, check=True)


@pytest.fixture(scope="session")
def gemma_server(
    gemma_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """What a model with prompts and Matryoshka sizes can do."""
    environment = PLENTY | CACHE | {"MODEL_QUANTIZATION": "fp32"}
    environment |= {"MODEL_NAME": str(gemma_directory)}
    with serve(tmp_path_factory.mktemp("gemma-server") / "log", environment) as running:
        yield running


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser for all tests of a file."""
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    """Its tab, for a test of the playground."""
    with kept_clean(chromium) as clean:
        yield clean


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> bulk.Embedded:
    directory = tmp_path_factory.mktemp("bulk")
    texts = bulk.write_corpus(directory / "corpus", bulk.ROWS)
    output = directory / "out"
    ran = bulk.run("embed_dataset", directory / "corpus", output, *bulk.OPTIONS, "--quiet")
    assert ran.returncode == 3, ran.stderr
    assert (ran.stdout, ran.stderr) == ("", "")
    return bulk.Embedded(directory / "corpus", texts, output)

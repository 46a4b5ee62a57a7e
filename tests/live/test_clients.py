"""The examples run as a user runs them, and BentoML's client tells of errors in its own way."""

import subprocess
import sys

import bentoml
import numpy as np
import pytest
from bentoml.exceptions import BentoMLException

from tests.live.server import ROOT, Server, bare_environment, token


def test_the_bentoml_example_runs(server: Server) -> None:
    command = [sys.executable, str(ROOT / "examples" / "bentoml_client.py"), server.url]
    ran = subprocess.run(command, env=bare_environment() | {"JWT_TOKEN": token()}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert " 384 [" in first
    assert second.startswith("2 {")


async def test_the_async_client_gets_the_vectors_of_the_sync_one(server: Server) -> None:
    texts = ["one", "두 번째"]
    with bentoml.SyncHTTPClient(server.url, token=token()) as client:
        expected = client.batch_embed(texts=texts)["embeddings"]
    async with bentoml.AsyncHTTPClient(server.url, token=token()) as client:
        answer = await client.batch_embed(texts=texts)
    np.testing.assert_allclose(answer["embeddings"], expected, atol=1e-6)


def test_a_refused_token_is_the_clients_own_exception(server: Server) -> None:
    with (
        bentoml.SyncHTTPClient(server.url, token="nonsense") as client,
        pytest.raises(BentoMLException, match=r"token_invalid|JSON Web Token"),
    ):
        client.embed(text="a")

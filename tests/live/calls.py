"""Calls of every route that embeds, to a server whose model has prompts."""

from typing import Any

import httpx
import numpy as np

from lab.server import Server

MODEL = "embeddinggemma-300m"
TEXTS = ["Which planet is known as the Red Planet?", "화성은 붉은 행성이다", "def mars(): return 4"]


def post(
    server: Server, path: str, *, headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    with server.client() as client:
        return client.post(path, json=body, headers=headers)


def answer(server: Server, path: str, **body: Any) -> Any:
    response = post(server, path, **body)
    assert response.status_code == 200, response.text
    return response.json()


def refusal(server: Server, path: str, **body: Any) -> dict[str, str]:
    response = post(server, path, **body)
    assert response.status_code == 422, response.text
    error: dict[str, str] = response.json()["error"]
    return error


def vectors(server: Server, **options: Any) -> np.ndarray:
    return np.array(
        answer(server, "/batch-embed", texts=TEXTS, **options)["embeddings"], np.float32
    )


def every_route(server: Server, text: str, **options: Any) -> list[Any]:
    """The embedding of `text` from each route that gives one."""
    return [
        answer(server, "/embed", text=text, **options)["embedding"],
        answer(server, "/batch-embed", texts=[text], **options)["embeddings"][0],
        answer(server, "/v1/embeddings", model=MODEL, input=text, **options)["data"][0][
            "embedding"
        ],
    ]

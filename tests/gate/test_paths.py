"""What a 404 says to a client with a slightly wrong base URL."""

from __future__ import annotations

import pytest

from gate.errors import PathNotFound
from gate.paths import MAX_PATH, RoutePaths, meant_path, near_paths
from tests.gate.asgi import GateSetup, post

NEAR = near_paths(["/", "/embed", "/v1/embeddings", "/v1/models", "/v1/models/org/Name", "/usage"])


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1//embeddings", "/v1/embeddings"),
        ("/v1/embeddings/", "/v1/embeddings"),
        ("/v1/v1/embeddings", "/v1/embeddings"),
        ("/embeddings", "/v1/embeddings"),
        ("/api/v1/embeddings", "/v1/embeddings"),
        ("/v1/embeddings/embeddings", "/v1/embeddings"),
        ("/v1/embeddings/v1/embeddings", "/v1/embeddings"),
        ("/V1/Embeddings", "/v1/embeddings"),
        ("/v1/embed", "/embed"),
        ("//embed", "/embed"),
        ("/models/org/name", "/v1/models/org/Name"),
    ],
)
def test_a_path_that_is_nearly_right_is_told_the_right_one(path: str, meant: str) -> None:
    assert meant_path(path, NEAR) == meant


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/embed;x", "*"])
def test_any_other_path_is_told_none(path: str) -> None:
    assert meant_path(path, NEAR) is None


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/api/embed/", "/api/embed"),
        ("/api/api/embed", "/api/embed"),
        ("/v1/embed/", "/v1/embed"),
        ("//embed", "/embed"),
        ("/api/v1/embeddings", "/v1/embeddings"),
        ("/v1/v2/embed", "/v2/embed"),
        ("/tei//embed", "/tei/embed"),
        ("/embeddings", "/v1/embeddings"),
    ],
)
def test_of_several_paths_the_one_that_it_ends_with_is_meant(path: str, meant: str) -> None:
    embedding = ["/embed", "/v1/embed", "/v2/embed", "/api/embed", "/tei/embed"]
    assert meant_path(path, near_paths([*embedding, "/v1/embeddings", "/api/embeddings"])) == meant


def test_a_path_of_any_length_costs_little() -> None:
    assert meant_path("/embed" + "/" * MAX_PATH, NEAR) is None


async def test_the_404_names_the_right_path_and_nothing_of_the_callers() -> None:
    setup = GateSetup()
    with pytest.raises(PathNotFound, match=r"Call /embed instead\.") as refusal:
        await post(setup.project.hs256(), path="/v1//EMBED/").through(setup.gate())
    assert "EMBED" not in str(refusal.value)


ROUTES = RoutePaths(["/v1/files", "/v1/files/{file_id}", "/v1/files/{file_id}/content", "/a.b"])


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/files", "/v1/files"),
        ("/v1/files/file-1", "/v1/files/{file_id}"),
        ("/v1/files/A_b-9/content", "/v1/files/{file_id}/content"),
        ("/a.b", "/a.b"),
    ],
)
def test_a_name_in_a_path_is_that_of_its_route(path: str, route: str) -> None:
    assert ROUTES.find(path) == route


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/",
        "/v1/files//content",
        "/v1/files/../content",
        "/v1/files/{file_id}",
        "/v1/files/a/b",
        "/v1/files/a/content/",
        "/v1/files/a\n",
        "/v1/files/é",
        "/v1/files/" + "a" * 65,
        "/v1/file",
        "/aXb",
    ],
)
def test_what_cannot_be_a_name_belongs_to_no_route(path: str) -> None:
    assert ROUTES.find(path) is None

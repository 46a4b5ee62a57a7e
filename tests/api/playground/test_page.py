"""The playground's files, and the policy that they are served with."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from api.fixed import Fixed
from api.playground.page import PATH, PATHS, PlaygroundFiles, Project, is_playground
from tests.api.asgi import Client
from tests.api.dialects.counting import MODEL_INFO

PROJECT = Project("https://abcdefghijklmnopqrst.supabase.co", "sb_publishable_a")


async def get(app: Fixed) -> Client:
    client = Client()
    await client.call(app)
    return client


async def settings_of(playground: PlaygroundFiles) -> Any:
    return json.loads((await get(playground.at(f"{PATH}/settings.json"))).body)


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_is_bound_to_this_server(path: str) -> None:
    headers = (await get(PlaygroundFiles(MODEL_INFO).at(path))).headers
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'none';" in policy
    assert "connect-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers[b"referrer-policy"] == b"no-referrer"
    assert headers[b"content-type"].split(b";")[0] in {
        b"text/html", b"text/css", b"text/javascript", b"application/json"
    }  # fmt: skip


async def test_what_the_page_loads_is_there_and_nothing_is_inline() -> None:
    playground = PlaygroundFiles(MODEL_INFO)
    html = (await get(playground.at(PATH))).body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", html)
    assert "//" not in html
    loaded = re.findall(r'(?:src|href)="(playground/[^"]+)"', html)
    assert {f"/{path}" for path in loaded} <= set(PATHS)
    scripts = [path for path in PATHS if path.endswith(".js")]
    for path in scripts:
        code = (await get(playground.at(path))).body.decode()
        assert {f"{PATH}/{name}" for name in re.findall(r'from "\./([^"]+)"', code)} <= set(PATHS)
        assert not re.search(r"innerHTML|insertAdjacent|document\.write|localStorage", code), path


async def test_the_page_may_call_the_project_and_knows_its_public_key() -> None:
    playground = PlaygroundFiles(MODEL_INFO, project=PROJECT)
    headers = (await get(playground.at(PATH))).headers
    policy = headers[b"content-security-policy"].decode()
    assert f"connect-src 'self' {PROJECT.url};" in policy
    known = await settings_of(playground)
    assert known["project"] == {"url": PROJECT.url, "key": PROJECT.key}
    assert known["tasks"] == list(MODEL_INFO.main_tasks)
    assert known["dimensions"] == list(MODEL_INFO.dimensions)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:password@host",
        "https://host; script-src *",
        "https://host'",
        "https://host/path",
        "ftp://host",
    ],
)
async def test_a_url_that_no_browser_can_call_is_not_told(url: str) -> None:
    playground = PlaygroundFiles(MODEL_INFO, project=replace(PROJECT, url=url))
    assert (await settings_of(playground))["project"] is None
    headers = (await get(playground.at(PATH))).headers
    assert b"connect-src 'self';" in headers[b"content-security-policy"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:54321", "http://[::1]:54321", "https://a.b"])
async def test_every_form_of_an_origin_can_be_called(url: str) -> None:
    playground = PlaygroundFiles(MODEL_INFO, project=replace(PROJECT, url=url))
    assert (await settings_of(playground))["project"]["url"] == url


def test_its_paths_are_told_from_others() -> None:
    assert all(map(is_playground, PATHS))
    assert not any(map(is_playground, ["/", "/docs", "/playground/nothing.js", "/embed"]))

"""How the tests use the playground: what a user does, and what must hold whatever he does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from lab.browser import Page
from lab.server import Server

TEXTS = ["A man is playing a guitar", "Someone plays music", "The market fell", "It rained"]
REFUSED = "Failed to load resource"  # how Chromium tells of each answer that is not 200
READY = "document.body && document.body.dataset.ready"
IDLE = "!document.querySelector('#compare').disabled"
SIGNED_IN = "!document.querySelector('#signed-in').hidden"
KEPT = """(async () => [localStorage.length, sessionStorage.length, document.cookie.length,
    (await indexedDB.databases()).length])()"""


@contextmanager
def kept_clean(chromium: Page) -> Iterator[Page]:
    """A tab that calls no other host, keeps nothing and breaks no policy, whatever is done in it.

    It has the size, the scheme and the language of every test, unless a test changes them.
    """
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.call("Emulation.clearDeviceMetricsOverride")
    chromium.call("Emulation.setEmulatedMedia", features=[])
    chromium.call("Network.setUserAgentOverride", userAgent="a browser", acceptLanguage="en-GB")
    yield chromium
    origin = chromium.evaluate("location.origin")
    project = httpx.get(f"{origin}/playground/settings.json").json()["project"]
    called = (origin, "about:", *([project["url"]] if project else []))
    assert [url for url in chromium.requests if not url.startswith(called)] == []
    assert [text for text in chromium.complaints if not text.startswith(REFUSED)] == []
    assert chromium.evaluate(KEPT) == [0, 0, 0, 0]
    for url in [*chromium.requests, chromium.evaluate("location.href")]:
        assert "eyJ" not in url


def click(page: Page, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def fill(page: Page, selector: str, text: str) -> None:
    """Set a field as its user would."""
    page.evaluate(
        f"{{const field = document.querySelector({json.dumps(selector)});"
        f"field.value = {json.dumps(text)};"
        "for (const type of ['input', 'change'])"
        "field.dispatchEvent(new Event(type, {bubbles: true}))}"
    )


def said(page: Page, selector: str) -> str:
    """The text that is seen there; nothing of what is hidden."""
    text: str = page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText.trim()")
    return text


def open_page(page: Page, server: Server) -> None:
    page.open("about:blank")  # else a second opening of the same address would keep the page
    page.open(f"{server.url}/playground")
    page.wait_for(READY)


def use_token(page: Page, bearer: str) -> None:
    fill(page, "#token", bearer)
    click(page, "#paste button")


def compare(page: Page, texts: list[str]) -> None:
    fill(page, "#lines", "\n".join(texts))
    click(page, "#compare")
    page.wait_for(IDLE)


def answer_of(server: Server, bearer: str, path: str, **body: Any) -> Any:
    with server.client(bearer) as client:
        return client.post(path, json=body).raise_for_status().json()

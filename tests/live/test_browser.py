"""The documentation in a real browser: it renders, and nothing leaves this server."""

from pathlib import Path

import httpx
import pytest
from PIL import Image

from lab.browser import browser
from lab.server import Server, token

RENDERED = {
    "/docs": "document.querySelectorAll('.opblock').length",
    "/redoc": "document.querySelectorAll('[data-section-id^=\"tag/\"] h2').length",
}


@pytest.mark.parametrize("server", ["source"], indirect=True)
@pytest.mark.parametrize("path", RENDERED)
def test_the_documentation_renders_and_nothing_leaves_this_server(
    server: Server, tmp_path: Path, path: str
) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    with browser(tmp_path) as page:
        page.open(f"{server.url}{path}")
        page.wait_for(f"{RENDERED[path]} >= {len(paths)}")
        text = page.evaluate("document.body.innerText")
        picture = Image.open(page.screenshot(tmp_path / "page.png"))
    assert "embedding-api" in text
    for operation in ("/v1/embeddings", "/batch-embed", "/similarity"):
        assert operation in text or paths[operation]["post"]["summary"] in text
    assert picture.width == 1280
    assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 200  # not a blank page
    assert page.requests
    assert [
        url for url in page.requests if not url.startswith((server.url, "data:", "blob:"))
    ] == []
    assert page.complaints == []


@pytest.mark.parametrize("server", ["source"], indirect=True)
def test_a_call_from_the_documentation_is_answered(server: Server, tmp_path: Path) -> None:
    """As Swagger UI's own button sends it, with the token of its own dialogue."""
    with browser(tmp_path) as page:
        page.open(f"{server.url}/docs")
        page.wait_for("document.querySelectorAll('.opblock').length > 5")
        page.evaluate("document.querySelector('.authorize').click()")
        page.wait_for("document.querySelector('.modal-ux input')")
        page.evaluate(
            "{const input = document.querySelector('.modal-ux input');"
            "Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, "
            f"'{token()}'); input.dispatchEvent(new Event('input', {{bubbles: true}}));"
            "document.querySelector('.modal-ux .authorize').click();"
            "document.querySelector('.modal-ux .btn-done').click()}"
        )
        page.evaluate("document.querySelector('#operations-embeddings-embed button').click()")
        page.wait_for("document.querySelector('#operations-embeddings-embed .try-out__btn')")
        page.evaluate(
            "document.querySelector('#operations-embeddings-embed .try-out__btn').click()"
        )
        page.wait_for("document.querySelector('#operations-embeddings-embed .execute')")
        page.evaluate("document.querySelector('#operations-embeddings-embed .execute').click()")
        page.wait_for("document.querySelector('.live-responses-table tbody .response-col_status')")
        status = page.evaluate(
            "document.querySelector('.live-responses-table tbody .response-col_status').innerText"
        )
    assert status.split()[0] == "200"

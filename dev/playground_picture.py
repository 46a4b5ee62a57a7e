"""Draw the playground of a running service as a picture for the documents.

python -m dev.playground_picture http://127.0.0.1:8000 docs/playground.png
"""

import base64
import io
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from container.development import development_token
from lab.browser import Page, browser
from settings import load_settings

WIDTH, HEIGHT = 1040, 1200  # pixels of the window
COLOURS = 255  # of the picture, which keeps it small
LINES = (
    "A man is playing a guitar",
    "Someone plays an instrument",
    "The stock market fell today",
    "Share prices dropped sharply",
    "It rained in the mountains",
    "The weather was wet",
)


def draw(url: str, bearer: str, path: Path) -> None:
    """Compare texts as a user would, and write what the page shows to a PNG file."""
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as page:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        page.open(f"{url}/playground")
        page.wait_for("document.body && document.body.dataset.ready")
        _fill(page, "token", bearer)
        page.evaluate("document.querySelector('#paste button').click()")
        page.wait_for("!document.querySelector('#signed-in').hidden")
        _fill(page, "lines", "\n".join(LINES))
        page.evaluate("document.querySelector('#compare').click()")
        page.wait_for(f"document.querySelectorAll('#token-list li').length === {len(LINES)}")
        page.wait_for("!document.querySelector('#compare').disabled")
        page.evaluate("document.activeElement.blur(), window.scrollTo(0, 0)")
        _save(page, path)


def _fill(page: Page, name: str, text: str) -> None:
    page.evaluate(
        f"{{const field = document.getElementById({name!r}); field.value = {json.dumps(text)};"
        "field.dispatchEvent(new Event('input', {bubbles: true}))}"
    )


def _save(page: Page, path: Path) -> None:
    """From the texts to the end of the pictures."""
    top, bottom = page.evaluate(
        "[document.querySelector('#run').closest('section').getBoundingClientRect().top, "
        "document.querySelector('.pictures').getBoundingClientRect().bottom]"
    )
    clip = {"x": 0, "y": top - 12, "width": WIDTH, "height": bottom - top + 24, "scale": 1}
    shot = page.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"])))
    picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    service, picture_file = sys.argv[1:]
    draw(service, development_token(load_settings()), Path(picture_file))

"""The playground in a real browser, against the service as `make serve` serves it."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.browser import Page
from lab.server import CACHE, Server, serve, token
from tests.live.conftest import PLENTY
from tests.live.occupied import occupied
from tests.live.playground import (
    SIGNED_IN,
    TEXTS,
    answer_of,
    click,
    compare,
    fill,
    open_page,
    said,
    use_token,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    """The starter model as `make serve` serves it, without a project; one request at once."""
    environment = PLENTY | CACHE | {"MODEL_QUANTIZATION": "fp32", "MAX_CONCURRENT_PER_USER": "1"}
    environment |= {"MAX_BODY_BYTES": "1500000"}
    with serve(tmp_path_factory.mktemp("plain") / "log", environment) as running:
        yield running


def test_pointing_at_a_square_tells_its_texts_and_the_diagonal_has_the_strongest_colour(
    page: Page, plain: Server
) -> None:
    open_page(page, plain)
    use_token(page, token(str(uuid.uuid4())))
    page.wait_for(SIGNED_IN)
    compare(page, TEXTS)
    page.evaluate("document.querySelector('#heat').scrollIntoView()")
    left, top, size = page.evaluate(
        "(({left, top, width}) => [left, top, width])("
        "document.querySelector('#heat').getBoundingClientRect())"
    )
    cell = (size - 24) / 4
    page.point_at(left + 24 + 2.5 * cell, top + 24 + 0.5 * cell)
    page.wait_for(f"document.querySelector('#cell').innerText.includes({json.dumps(TEXTS[2])})")
    assert said(page, "#cell").startswith("1 and 3: ")
    ratio = page.evaluate("document.querySelector('#heat').width") / size
    corner = int((24 + 2) * ratio)
    pixel = page.evaluate(
        "[...document.querySelector('#heat').getContext('2d')"
        f".getImageData({corner}, {corner}, 1, 1).data]"
    )
    high = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--high')")
    assert pixel[:3] == [int(high.strip()[start : start + 2], 16) for start in (1, 3, 5)]


def test_what_is_not_read_of_a_text_is_struck_through(page: Page, plain: Server) -> None:
    """Also after characters that JavaScript counts as two."""
    texts = ["🌈 naïve 한국어 " + "one more word " * 200, "short"]
    open_page(page, plain)
    use_token(page, token(str(uuid.uuid4())))
    page.wait_for(SIGNED_IN)
    compare(page, texts)
    read = answer_of(plain, token(), "/tokenize", texts=texts, offsets=True)["texts"]
    places = [[*dict.fromkeys(tuple(place) for place in one["offsets"] if place)] for one in read]
    marked = page.evaluate(
        "[...document.querySelectorAll('#token-list .marked')].map((text) => "
        "[...text.querySelectorAll('.token')].map((token) => token.textContent))"
    )
    assert marked == [
        [text[slice(*place)] for place in of_one]
        for text, of_one in zip(texts, places, strict=True)
    ]
    [cut] = page.evaluate(
        "[...document.querySelectorAll('#token-list del')].map((del) => del.textContent)"
    )
    end = places[0][-1][1]
    assert 0 < end < len(texts[0])
    assert cut.startswith(f"not read: {texts[0][end : end + 1_000]}")
    summaries = page.evaluate(
        "[...document.querySelectorAll('#token-list .hint')].map((text) => text.textContent)"
    )
    assert summaries[0].endswith("the model read 256 and cut the rest")
    assert summaries[1] == f"{len(read[1]['ids'])} tokens"


def test_an_expired_token_leads_to_signing_in_with_the_services_words(
    page: Page, plain: Server
) -> None:
    open_page(page, plain)
    expired = token(str(uuid.uuid4()), exp=1)
    use_token(page, expired)
    page.wait_for("document.querySelector('#account-error').innerText")
    with plain.client(expired) as client:
        assert said(page, "#account-error") == client.get("/usage").json()["error"]["message"]
    assert page.evaluate("document.activeElement.closest('#account') !== null")
    assert not page.evaluate(SIGNED_IN)


def test_a_token_that_expires_meanwhile_leads_to_signing_in_and_keeps_the_texts(
    page: Page, plain: Server
) -> None:
    open_page(page, plain)
    short = token(str(uuid.uuid4()), exp=int(time.time()) + 5)
    use_token(page, short)
    page.wait_for(SIGNED_IN)
    with plain.client(short) as client:
        while (answer := client.get("/usage")).status_code == 200:
            time.sleep(0.1)
    compare(page, TEXTS)
    assert said(page, "#account-error") == answer.json()["error"]["message"]
    assert not page.evaluate(SIGNED_IN)
    assert page.evaluate("document.querySelector('#lines').value").split("\n") == TEXTS
    assert page.evaluate("document.querySelector('#notice').hidden")


def test_a_refused_text_is_selected_and_a_refused_body_is_told(page: Page, plain: Server) -> None:
    open_page(page, plain)
    use_token(page, token(str(uuid.uuid4())))
    page.wait_for(SIGNED_IN)
    compare(page, ["fine", "", "a" * 1_048_577])
    assert "the limit is 1048576: split it" in said(page, "#notice-message")
    assert "Field: texts.1." in said(page, "#notice-details")
    selected = "[document.activeElement.selectionStart, document.activeElement.selectionEnd]"
    assert page.evaluate(selected) == [6, 6 + 1_048_577]
    assert page.evaluate("document.querySelector('#lines').getAttribute('aria-invalid')") == "true"
    assert page.evaluate("document.querySelector('#retry').hidden")
    compare(page, ["word " * 100_000] * 4)
    assert said(page, "#notice-message").startswith("The body is larger than 1500000 bytes.")
    compare(page, TEXTS)
    assert page.evaluate("document.querySelector('#notice').hidden")


# Each state of the button, which a slow test could miss.
SEEN = """{
  window.seen = [];
  const button = document.querySelector('#retry');
  const look = () => !button.hidden && seen.push([button.disabled, button.textContent]);
  new MutationObserver(look).observe(button, {attributes: true, childList: true});
}"""


def test_a_limit_counts_down_and_the_call_is_made_again(page: Page, plain: Server) -> None:
    user = str(uuid.uuid4())
    open_page(page, plain)
    use_token(page, token(user))
    page.wait_for(SIGNED_IN)
    page.evaluate(SEEN)
    with occupied(plain, user):
        compare(page, TEXTS)
        with plain.client(token(user)) as client:
            told = client.get("/usage").json()["error"]["message"]
        assert said(page, "#notice-message") == told
    page.wait_for("!document.querySelector('#retry').disabled")
    seen = [tuple(state) for state in page.evaluate("window.seen")]
    assert list(dict.fromkeys(seen)) == [(True, "Try again (in 1 s)"), (False, "Try again")]
    assert said(page, "#status") == "You can try again now."
    click(page, "#retry")
    page.wait_for("document.querySelectorAll('#token-list li').length === 4")
    assert page.evaluate("document.querySelector('#notice').hidden")


def focused(page: Page) -> str:
    """The id of what has the focus, which has to be visible."""
    name, outline = page.evaluate(
        "[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
    )
    assert outline == "solid", name
    return str(name)


def test_everything_can_be_done_by_keyboard(page: Page, plain: Server) -> None:
    def go_to(name: str) -> None:
        for _ in range(40):
            page.press("Tab")
            if focused(page) == name:
                return
        raise AssertionError(f"{name} was not reached")

    open_page(page, plain)
    go_to("token")
    page.enter(token(str(uuid.uuid4())))
    page.press("Enter")
    page.wait_for(SIGNED_IN)
    go_to("lines")
    page.evaluate("document.activeElement.select()")
    page.enter("first\nsecond\nthird")
    go_to("marks")
    page.press(" ")
    go_to("compare")
    page.press("Enter")
    page.wait_for("document.querySelectorAll('#map circle').length === 3")
    assert page.evaluate("document.activeElement.id") == "heat-title"
    assert page.evaluate("document.querySelector('#tokens').hidden")
    page.press("Tab")
    page.press("Enter")
    page.wait_for("document.querySelectorAll('#heat-table td').length === 9")
    go_to("tab-curl")
    page.press("ArrowRight")
    assert focused(page) == "tab-python"
    assert said(page, "#code").startswith("import os")
    page.press("End")
    assert said(page, "#code").startswith("const response")
    page.call("Browser.grantPermissions", permissions=["clipboardSanitizedWrite"])
    go_to("copy")
    page.press("Enter")
    page.wait_for("document.querySelector('#copied').innerText")
    assert said(page, "#copied") == "Copied."
    assert (
        page.evaluate("[...document.querySelectorAll('[role=tab][tabindex=\"-1\"]')].length") == 2
    )


UNNAMED = {"button", "textbox", "combobox", "radio", "checkbox", "tab", "image", "link", "region"}
CONTRASTS = """[...document.querySelectorAll('h1, .hint, button, a, del, .token, label, code, td')]
.filter((node) => node.offsetParent && !node.disabled).map((node) => {
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number)
      .map((part) => part / 255).map((part) => part <= 0.03928 ? part / 12.92
        : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let below = node;
  while (/, 0\\)$/.test(getComputedStyle(below).backgroundColor)) below = below.parentElement;
  const [a, b] = [getComputedStyle(node).color, getComputedStyle(below).backgroundColor]
    .map(luminance).sort();
  return {contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), name: node.outerHTML};
})"""


def test_it_fits_a_phone_in_both_languages_and_both_schemes_and_every_control_has_a_name(
    page: Page, plain: Server
) -> None:
    page.call("Network.setUserAgentOverride", userAgent="a browser", acceptLanguage="ko-KR")
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    open_page(page, plain)
    assert page.evaluate("document.documentElement.lang") == "ko"
    assert said(page, "#compare") == "비교"
    use_token(page, token(str(uuid.uuid4())))
    page.wait_for(SIGNED_IN)
    compare(page, [*TEXTS, "a" * 300, "word " * 300])
    click(page, "#heat-table summary")
    click(page, "#map-table summary")
    click(page, "input[value=boxes]")
    assert page.evaluate("document.querySelectorAll('#boxes textarea').length") == 6
    click(page, "#add-box")
    click(page, "#boxes li:nth-child(2) button")
    assert page.evaluate("document.querySelectorAll('#boxes textarea').length") == 6
    fill(page, "#boxes li:last-child textarea", "a text\nof two lines")
    click(page, "#compare")
    last = "document.querySelector('#token-list li:last-child .marked').textContent"
    page.wait_for(f"{last} === {json.dumps('a text' + chr(10) + 'of two lines')}")
    for language, scheme in (("ko", "light"), ("en", "dark")):
        fill(page, "#language", language)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        page.call("Emulation.setEmulatedMedia", features=media)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        poor = [found for found in page.evaluate(CONTRASTS) if found["contrast"] < 4.5]
        assert poor == [], scheme
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        controls = [
            node for node in tree if not node["ignored"] and node["role"]["value"] in UNNAMED
        ]
        assert len(controls) > 20
        assert [node for node in controls if not node["name"]["value"].strip()] == []
    assert said(page, "#compare") == "Compare"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(18, 22, 28)"


def test_both_languages_say_the_same_things(page: Page, plain: Server) -> None:
    open_page(page, plain)
    both = "(async () => (await import('./playground/words.js')).WORDS)()"
    words: dict[str, dict[str, str]] = page.evaluate(both)
    english, korean = words["en"], words["ko"]
    assert english.keys() == korean.keys()
    for name, text in english.items():
        values = {part.split("}")[0] for part in text.split("{")[1:]}
        assert {part.split("}")[0] for part in korean[name].split("{")[1:]} == values, name

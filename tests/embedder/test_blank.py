import re
import unicodedata

import pytest

from embedder.blank import is_blank


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t\r\v\f",
        "\u00a0\u3000\u2003",
        "\u200b",
        "\ufeff",
        "\u200b \u2060\u00ad",
        "\x00",
        "\u3164",
    ],
)
def test_what_nobody_sees_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize(
    "text", ["a", " \u200ba\u200b ", ".", "가", "👍\ufe0f", "👩\u200d🚀", "\u0301", "١"]
)
def test_what_shows_anything_is_not(text: str) -> None:
    assert not is_blank(text)


def test_every_space_control_and_format_character_is_blank_but_those_that_are_drawn() -> None:
    """Of format characters a few show: number signs and joiners of hieroglyphs."""
    drawn = re.compile(r"ARABIC|SYRIAC|KAITHI|EGYPTIAN|INTERLINEAR")
    for code in range(0x110000):
        letter = chr(code)
        if unicodedata.category(letter) in ("Zs", "Zl", "Zp", "Cc", "Cf"):
            assert is_blank(letter) or drawn.search(unicodedata.name(letter)), hex(code)

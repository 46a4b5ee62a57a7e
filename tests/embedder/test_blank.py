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
def test_invisible_text_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize(
    "text", ["a", " \u200ba\u200b ", ".", "가", "👍\ufe0f", "👩\u200d🚀", "\u0301", "١"]
)
def test_visible_text_is_not_blank(text: str) -> None:
    assert not is_blank(text)


def test_spaces_controls_and_format_characters_are_blank_unless_fonts_draw_them() -> None:
    """A few format characters are visible: number signs, and joiners of hieroglyphs."""
    drawn = re.compile(r"ARABIC|SYRIAC|KAITHI|EGYPTIAN|INTERLINEAR")
    for code in range(0x110000):
        letter = chr(code)
        if unicodedata.category(letter) in ("Zs", "Zl", "Zp", "Cc", "Cf"):
            assert is_blank(letter) or drawn.search(unicodedata.name(letter)), hex(code)

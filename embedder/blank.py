"""Blank texts: white space, and characters that fonts do not draw."""

import re

# Unicode's Default_Ignorable_Code_Point, controls, and the empty braille cell.
_INVISIBLE = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
)
_INVISIBLE_ABOVE = r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
_VISIBLE = re.compile(rf"[^\s{_INVISIBLE}{_INVISIBLE_ABOVE}]")
PATTERN = rf"^[\s{_INVISIBLE}]*$"  # matches a blank text, in the dialect of JSON Schema


def is_blank(text: str) -> bool:
    """Whether `text` has no visible character, so that its vector means nothing."""
    return _VISIBLE.search(text) is None

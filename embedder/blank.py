"""Texts that show nothing: white space, and characters that no font draws."""

import re

# Unicode's Default_Ignorable_Code_Point, controls, and the empty braille cell.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
)
_UNSEEN_ABOVE = r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
_SEEN = re.compile(rf"[^\s{_UNSEEN}{_UNSEEN_ABOVE}]")
PATTERN = rf"^[\s{_UNSEEN}]*$"  # of a blank text, as JSON Schema can say it


def is_blank(text: str) -> bool:
    """Whether nobody would see anything of `text`: its vector says nothing either."""
    return _SEEN.search(text) is None

"""The runbook has a heading for each alert, and none for an alert that does not exist."""

import re

from tests.deploy.promql import DEPLOY, alerts

RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """The text under each heading of level 3 in the chapter "Alerts"."""
    chapter = re.split(r"(?m)^## ", RUNBOOK.split("\n## Alerts\n")[1])[0]
    parts = re.split(r"(?m)^### (\w+)\n", chapter)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_its_heading_and_the_reverse() -> None:
    assert sections().keys() == alerts().keys()


def test_a_heading_says_how_urgent_it_is_what_is_seen_and_what_to_do() -> None:
    for name, text in sections().items():
        assert text.lstrip().startswith(f"*{alerts()[name]['labels']['severity']}.*"), name
        assert "**See:**" in text, name
        assert "**Do:**" in text, name


def test_the_contracts_troubles_are_there() -> None:
    chapter = RUNBOOK.split("\n## Troubleshooting\n")[1].split("\n## ")[0]
    for word in ("HF_TOKEN", "SUPABASE_JWT_SECRET", "MODEL_QUANTIZATION=int8", "restart redis"):
        assert word in chapter

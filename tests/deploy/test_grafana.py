"""The dashboard: its queries are taken by a real Prometheus and read what the service writes."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from dev.dashboard import DASHBOARD, UNITS, Source, dashboard, draw
from tests.deploy.promql import DEPLOY, known_names, names
from tests.live.server import Server, token

QUESTIONS = [
    "Is it up?",
    "Is it fast?",
    "Is it full?",
    "Who is refused, and why?",
    "What does a million tokens cost?",
]
PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
REFUSALS_ARE_COUNTED = "sum(increase(embed_errors_total[5m])) > 3 and sum(rate(embed_tokens_total[1m])) > 0"


def test_the_dashboard_answers_the_questions_of_whoever_runs_it() -> None:
    assert [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"] == QUESTIONS


def test_panels_read_series_that_exist() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            assert names(target["expr"]) <= known_names(), panel["title"]


def test_panels_lie_beside_and_below_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_grafana_is_told_of_the_prometheus_and_the_folder_that_there_are() -> None:
    provisioning, compose = (
        DEPLOY / "grafana" / "provisioning",
        yaml.safe_load((DEPLOY / "docker-compose.yml").read_text()),
    )
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "files.yml").read_text())["providers"]
    assert source["url"].removeprefix("http://").split(":")[0] in compose["services"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
    assert DASHBOARD.parent == DEPLOY / "grafana" / "dashboards"


@pytest.fixture(scope="module")
def watched(origin: Server, prometheus: str) -> Source:
    """A Prometheus that has seen calls and refusals of every kind the panels show."""
    stranger = {"Authorization": f"Bearer {token(aud='other')}", "X-Forwarded-For": "203.0.113.7"}
    with origin.client() as client:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert client.post("/embed", json={"text": "a word"}).status_code == 200
            client.post("/embed", json={"text": ""})
            client.post("/embed", json={"text": "a"}, headers=stranger)
            if httpx.get(f"{prometheus}/api/v1/query", params={"query": REFUSALS_ARE_COUNTED}).json()["data"]["result"]:
                break
            time.sleep(0.5)
    return Source(prometheus, time.time(), 300)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_shows_something(watched: Source, panel: dict[str, Any]) -> None:
    series = watched.ask(panel)
    assert series
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert all(one.values for one in series)


def test_prometheus_reads_the_service_and_finds_no_fault_with_it(watched: Source) -> None:
    [target] = httpx.get(f"{watched.url}/api/v1/targets").json()["data"]["activeTargets"]
    assert (target["health"], target["labels"]["job"]) == ("up", "embedding-api")
    rules = httpx.get(f"{watched.url}/api/v1/rules").json()["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}
    alerts = httpx.get(f"{watched.url}/api/v1/alerts").json()["data"]["alerts"]
    assert [alert for alert in alerts if alert["state"] == "firing"] == []


def test_the_picture_is_drawn_from_the_dashboard(watched: Source, tmp_path: Path) -> None:
    draw(watched, tmp_path / "dashboard.png")
    with Image.open(tmp_path / "dashboard.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100  # lines and letters, not an empty sheet

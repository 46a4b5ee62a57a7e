"""The dashboard: a real Prometheus accepts its queries, which read what the service exports."""

import itertools
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from dev.dashboard import DASHBOARD, UNITS, Series, Source, dashboard, draw, picture_of
from lab.server import ROOT, Server, free_port, token
from lab.service_keys import KEY
from tests.deploy.processes import prometheus_of
from tests.deploy.promql import DEPLOY, known_names, names

QUESTIONS = [
    "Is it up?",
    "Is it fast?",
    "Is it full?",
    "Who calls, and how much?",
    "Who is refused, and why?",
    "What does a million tokens cost?",
]
PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
ASKED = [panel for panel in PANELS if "targets" in panel]
[ALERTS] = [panel for panel in PANELS if panel["type"] == "alertlist"]
# 0 without problems, or while no call waits.
MAY_BE_ZERO = {
    "Limits",
    "Restarts in the time shown",
    "Tokens waiting",
    "Calls in flight",
    "Vectors that left the cache, per second",
    "Requests of batches that wait",
    "Requests of batches, per second",
    "Files of batches",
}
NEEDS_A_KEY_SERVER = {"Key set"}
COUNTED = (
    "sum(increase(embed_errors_total[5m])) > 3 and sum(rate(embed_tokens_total[1m])) > 0"
    " and sum(job_status:embed_calls:rate5m) > 0"
    ' and sum(rate(embed_gate_decisions_total{decision!="admitted"}[1m])) > 0'
)


def test_the_rows_of_the_dashboard_are_the_questions_of_an_operator() -> None:
    assert [
        panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"
    ] == QUESTIONS


def test_panels_read_series_that_exist() -> None:
    for panel in ASKED:
        for target in panel["targets"]:
            assert names(target["expr"]) <= known_names(), panel["title"]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_grafana_is_provisioned_with_the_prometheus_and_the_folder_of_the_compose_file() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "files.yml").read_text())[
        "providers"
    ]
    assert source["url"].removeprefix("http://").split(":")[0] in compose["services"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}
    assert ALERTS["options"]["datasource"] == source["name"]
    assert (
        f"./deploy/grafana/dashboards:{provider['options']['path']}:ro"
        in compose["services"]["grafana"]["volumes"]
    )
    assert DASHBOARD.parent == DEPLOY / "grafana" / "dashboards"


@pytest.fixture(scope="module")
def watched(origin: Server, prometheus: str) -> Source:
    """A Prometheus that has seen calls and refusals of every kind the panels show."""
    stranger = {"Authorization": f"Bearer {token(aud='other')}", "X-Forwarded-For": "203.0.113.7"}
    with origin.client() as client:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for text in ("a word", f"{time.monotonic()} words"):  # one is in the cache, one is not
                assert client.post("/embed", json={"text": text}).status_code == 200
            client.post("/embed", json={"text": ""})
            client.post("/embed", json={"text": "a"}, headers=stranger)
            client.post("/embed", json={"text": "a"}, headers={"Authorization": f"Bearer {KEY}"})
            if httpx.get(f"{prometheus}/api/v1/query", params={"query": COUNTED}).json()["data"][
                "result"
            ]:
                break
            time.sleep(0.5)
    return Source(prometheus, time.time(), 300)


@pytest.mark.parametrize("panel", ASKED, ids=lambda panel: panel["title"])
def test_every_query_of_a_panel_shows_a_figure(watched: Source, panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    for target in panel["targets"]:
        series = watched.ask(panel | {"targets": [target]})
        assert series or panel["title"] in NEEDS_A_KEY_SERVER, target["expr"]
        figures = [[value for value in one.values if math.isfinite(value)] for one in series]
        assert all(figures), target["expr"]
        if series and panel["title"] not in MAY_BE_ZERO:
            assert max(map(max, figures)) > 0, target["expr"]


def test_users_and_each_service_key_are_told_apart(watched: Source) -> None:
    panels = [panel for panel in ASKED if panel["title"].endswith("by caller")]
    for panel in panels:
        assert {series.name for series in watched.ask(panel)} == {"user", "service:indexer"}
    assert len(panels) == 2


def test_the_age_of_a_key_set_is_shown_where_there_is_one(watched: Source) -> None:
    """A service without a key server does not export its age."""
    [panel] = [panel for panel in ASKED if panel["title"] in NEEDS_A_KEY_SERVER]
    assert watched.ask(panel) == []
    assert panel["fieldConfig"]["defaults"]["noValue"]


def test_an_active_alert_is_in_the_list(tmp_path: Path) -> None:
    with prometheus_of(tmp_path, free_port()) as url:
        deadline = time.monotonic() + 20
        found = set[str]()
        while not found and time.monotonic() < deadline:
            found = {series.name for series in Source(url, time.time(), 60).ask(ALERTS)}
            time.sleep(0.5)
    assert found == {"EmbeddingDown: pending"}
    assert {state for state, shown in ALERTS["options"]["stateFilter"].items() if shown} >= {
        "pending",
        "firing",
    }


def test_prometheus_reads_the_service_and_finds_no_fault_with_it(watched: Source) -> None:
    [target] = httpx.get(f"{watched.url}/api/v1/targets").json()["data"]["activeTargets"]
    assert (target["health"], target["labels"]["job"]) == ("up", "embedding-api")
    rules = httpx.get(f"{watched.url}/api/v1/rules").json()["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}
    # Not pending either: most alerts fire later than this test ends.
    assert httpx.get(f"{watched.url}/api/v1/alerts").json()["data"]["alerts"] == []


def test_the_picture_is_drawn_from_the_dashboard(watched: Source, tmp_path: Path) -> None:
    draw(watched, tmp_path / "dashboard.png")
    with Image.open(tmp_path / "dashboard.png") as picture:
        assert picture.width > 1000
        colours = picture.convert("RGB").getcolors(1 << 24) or []
        assert len(colours) > 100  # lines and letters, not an empty page


LARGEST = {"bytes": 8 * 2.0**30, "percentunit": 1.0, "reqps": 1e6, "s": 90.0, "short": 1e8}


@dataclass(frozen=True)
class Written(Source):
    """Answers each query with a series per label that it may have, whose values are far apart."""

    labels: int

    def ask(self, panel: dict[str, Any]) -> list[Series]:
        instant = panel["type"] != "timeseries"
        points = 1 if instant else self.seconds // self.step
        times = [(self.end - point * self.step) / 86_400 for point in range(points)][::-1]
        names = [
            re.sub(r"{{\w+}}", f"a_long_name_{label}", target["legendFormat"])
            for target in panel.get("targets", [])
            for label in range(self.labels if "{{" in target["legendFormat"] else 1)
        ]
        largest = LARGEST[panel["fieldConfig"]["defaults"]["unit"]] if names else 0.0
        return [
            Series(name, times, [largest * 7.0**-n / (1 + at) for at in range(points)])
            for n, name in enumerate(names)
        ]


END = 1_760_000_000.0
SOURCES = {
    "a point": Written("", END, 2, 1),
    "five minutes": Written("", END, 300, 6),
    "a day": Written("", END, 86_400, 10),
}


@pytest.fixture(params=["Prometheus", *SOURCES])
def drawn(request: pytest.FixtureRequest) -> Source:
    if request.param in SOURCES:
        return SOURCES[request.param]
    return cast(Source, request.getfixturevalue("watched"))


def test_labels_of_the_picture_overlap_nothing_and_are_inside_their_panel(drawn: Source) -> None:
    figure = picture_of(drawn)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    cards = [axes.get_window_extent(renderer) for axes in figure.axes if not axes.has_data()]
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in visible_texts(axes)]
        for box, other in itertools.combinations(boxes, 2):
            assert not box.overlaps(other.padded(-1))
        if legend := axes.get_legend():
            boxes.append(legend.get_window_extent(renderer))
        for box in boxes:
            assert any(
                card.x0 <= box.x0 and box.x1 <= card.x1 and card.y0 <= box.y0 for card in cards
            )


def visible_texts(axes: Axes) -> list[Text]:
    """Matplotlib makes one more label at each end of an axis than it shows."""
    shown = list(axes.texts)
    if axes.axison:
        (left, right) = axes.get_xlim()
        (bottom, top) = axes.get_ylim()
        shown += [at for at in axes.get_xticklabels() if left <= at.get_position()[0] <= right]
        shown += [at for at in axes.get_yticklabels() if bottom <= at.get_position()[1] <= top]
    return [text for text in shown if text.get_text()]

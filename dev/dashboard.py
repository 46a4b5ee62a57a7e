"""The dashboard as a picture: its own queries, asked of a real Prometheus, drawn without Grafana.

python -m dev.dashboard http://127.0.0.1:9090 picture.png [MINUTES]
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

DASHBOARD = (
    Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards" / "embedding-api.json"
)
COLUMNS = 24  # of Grafana's grid
ROW_INCHES, COLUMN_INCHES = 0.3, 0.55
# What Grafana's list of alerts asks Prometheus for, as a query.
LISTED = {"expr": "ALERTS", "legendFormat": "{{alertname}}: {{alertstate}}", "instant": True}
COLOURS = {"green": "#2f855a", "red": "#c53030", "text": "#222222"}


@dataclass(frozen=True)
class Series:
    """One line of a panel: its name, when in days since 1970 (as matplotlib counts), and how much."""

    name: str
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Source:
    """A Prometheus, and the time that is shown: `seconds` up to `end`, in seconds since 1970."""

    url: str
    end: float
    seconds: int

    def ask(self, panel: dict[str, Any]) -> list[Series]:
        """What a panel shows. Raises httpx.HTTPStatusError where Prometheus does not take a query."""
        return [series for target in panel.get("targets", [LISTED]) for series in self._ask(target)]

    def _ask(self, target: dict[str, Any]) -> Iterator[Series]:
        instant = target.get("instant", False)
        asked: dict[str, str | float] = {
            "query": with_variables(target["expr"], self.seconds, self.step)
        }
        if instant:
            asked |= {"time": self.end}
        else:
            asked |= {"start": self.end - self.seconds, "end": self.end, "step": self.step}
        answer = httpx.get(
            f"{self.url}/api/v1/{'query' if instant else 'query_range'}", params=asked, timeout=30
        )
        answer.raise_for_status()
        for found in answer.json()["data"]["result"]:
            points = [found["value"]] if instant else found["values"]
            name = _legend(target["legendFormat"], found["metric"])
            yield Series(
                name, [when / 86_400 for when, _ in points], [float(value) for _, value in points]
            )

    @property
    def step(self) -> int:
        """Seconds between two points."""
        return max(2, self.seconds // 200)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return dict(json.loads(DASHBOARD.read_text(encoding="utf-8")))


def with_variables(expr: str, seconds: int, step: int) -> str:
    """A query with Grafana's variables and the dashboard's own replaced, longest name first."""
    variables = {"__rate_interval": f"{max(60, 4 * step)}s", "__range": f"{seconds}s"}
    variables |= {item["name"]: item["query"] for item in dashboard()["templating"]["list"]}
    for name in sorted(variables, key=len, reverse=True):
        expr = expr.replace(f"${name}", variables[name])
    return expr


def _legend(template: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def _bytes(value: float) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:,.0f} MiB"


def _short(value: float) -> str:
    divisor, suffix = next(
        (size, name) for size, name in ((1e6, " M"), (1e3, " k"), (0, "")) if value >= size
    )
    return f"{value / (divisor or 1):.3g}{suffix}"


def _seconds(value: float) -> str:
    if value >= 120:
        return f"{value / 60:.0f} min"
    return f"{value:.2g} s" if value >= 1 else f"{value * 1000:.3g} ms"


UNITS: dict[str, Callable[[float], str]] = {
    "bytes": _bytes,
    "percentunit": lambda value: f"{value:.0%}",
    "reqps": lambda value: f"{value:.3g} /s",
    "s": _seconds,
    "short": _short,
}


def _draw_stat(axes: Axes, panel: dict[str, Any], found: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    axes.axis("off")
    value = found[0].values[0] if found else float("nan")
    text = UNITS[defaults["unit"]](value) if found else defaults.get("noValue", "no data")
    if panel["options"]["textMode"] == "name" and found:
        text = found[0].name.rsplit("/", 1)[-1]
    for mapping in defaults.get("mappings", ()):
        text = mapping["options"].get(f"{value:g}", {}).get("text", text)
    steps = [
        step
        for step in defaults["thresholds"]["steps"]
        if step["value"] is None or value >= step["value"]
    ]
    size = 17 if len(text) < 14 else 9
    axes.text(
        0.5,
        0.45,
        text,
        ha="center",
        va="center",
        size=size,
        weight="bold",
        color=COLOURS[steps[-1]["color"]],
    )


def _draw_series(axes: Axes, panel: dict[str, Any], found: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["custom"]["stacking"]["mode"] == "normal":
        _stack(axes, found)
    else:
        for series in found:
            axes.plot(series.times, series.values, label=series.name, linewidth=1)
    axes.set_ylim(0, 1.25 * (axes.get_ylim()[1] or 1))  # room for the legend
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: UNITS[defaults["unit"]](value)))
    axes.xaxis_date()
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    axes.grid(alpha=0.25)
    if found:
        axes.legend(fontsize=6, frameon=False, loc="upper left", ncols=2)


def _stack(axes: Axes, found: list[Series]) -> None:
    times = sorted({time for series in found for time in series.times})
    rows = [dict(zip(series.times, series.values, strict=True)) for series in found]
    heights = [[row.get(time, 0.0) for time in times] for row in rows]
    axes.stackplot(times, heights, labels=[series.name for series in found])


def _draw_bars(axes: Axes, panel: dict[str, Any], found: list[Series]) -> None:
    found = found[::-1]
    bars = axes.barh(range(len(found)), [series.values[0] for series in found], height=0.3)
    axes.bar_label(
        bars, labels=[_short(series.values[0]) for series in found], fontsize=7, padding=2
    )
    for row, series in enumerate(found):
        axes.text(0, row + 0.2, f" {series.name}", fontsize=7)
    axes.set_yticks([])
    axes.margins(x=0.15, y=0.2)


def _draw_list(axes: Axes, panel: dict[str, Any], found: list[Series]) -> None:
    axes.axis("off")
    names = sorted(series.name for series in found)
    colour = COLOURS["red" if names else "green"]
    axes.text(0.02, 0.95, "\n".join(names) or "none", va="top", size=9, weight="bold", color=colour)


DRAW = {
    "stat": _draw_stat,
    "timeseries": _draw_series,
    "bargauge": _draw_bars,
    "alertlist": _draw_list,
}


def draw(source: Source, path: Path) -> None:
    """Every panel where the dashboard has it."""
    panels = dashboard()["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(
        figsize=(COLUMNS * COLUMN_INCHES, rows * ROW_INCHES), facecolor="#f4f5f5", dpi=90
    )
    for panel in panels:
        at = panel["gridPos"]
        if panel["type"] == "row":
            figure.text(0.01, 1 - (at["y"] + 0.8) / rows, panel["title"], size=11, weight="bold")
            continue
        left, bottom = (at["x"] + 0.9) / COLUMNS, 1 - (at["y"] + at["h"] - 1.1) / rows
        axes = figure.add_axes((left, bottom, (at["w"] - 1.2) / COLUMNS, (at["h"] - 2.4) / rows))
        axes.set_title(panel["title"], size=8, loc="left")
        axes.tick_params(labelsize=6)
        DRAW[panel["type"]](axes, panel, source.ask(panel))
    figure.savefig(path)


if __name__ == "__main__":
    url, picture, minutes = (*sys.argv[1:], "15")[:3]
    draw(Source(url, time.time(), int(minutes) * 60), Path(picture))

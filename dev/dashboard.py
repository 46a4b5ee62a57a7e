"""Draw the Grafana dashboard as a picture, without Grafana: its queries are sent to Prometheus.

python -m dev.dashboard http://127.0.0.1:9090 picture.png [MINUTES]
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, MinuteLocator
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, MultipleLocator
from matplotlib.transforms import Bbox

DASHBOARD = (
    Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards" / "embedding-api.json"
)
COLUMNS = 24  # of Grafana's grid
ROW_INCHES, COLUMN_INCHES = 0.3, 0.55
GAP = 0.12  # between panels, in rows and columns
BAR = 0.3  # height, in rows
TICK_INCHES, LETTER_INCHES, LINE_INCHES = 0.6, 0.045, 0.17  # of labels of 6 points
MINUTES = (1, 2, 5, 10, 15, 30, 60)  # possible steps between labels of the time axis
# The query for the panel that lists alerts.
LISTED = {"expr": "ALERTS", "legendFormat": "{{alertname}}: {{alertstate}}", "instant": True}
COLOURS = {"green": "#2f855a", "red": "#c53030", "text": "#222222"}


@dataclass(frozen=True)
class Series:
    """One line of a panel. Times are in days since 1970, the unit of matplotlib."""

    name: str
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Source:
    """A Prometheus, and the period shown: `seconds` before `end`, in seconds since 1970."""

    url: str
    end: float
    seconds: int

    def ask(self, panel: dict[str, Any]) -> list[Series]:
        """The series of a panel. Raises httpx.HTTPStatusError when a query is invalid."""
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
    """Replace the variables of Grafana and of the dashboard, longest name first."""
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
    "reqps": lambda value: f"{_short(value)} /s",
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
    reached = [
        step["color"]
        for step in defaults["thresholds"]["steps"]
        if step["value"] is None or value >= step["value"]
    ]
    size = 17 if len(text) < 14 else 10
    look: dict[str, Any] = {"size": size, "weight": "bold", "color": COLOURS[reached[-1]]}
    axes.text(0.5, 0.5, text, ha="center", va="center", **look)


def _draw_series(axes: Axes, panel: dict[str, Any], found: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["custom"]["stacking"]["mode"] == "normal":
        _stack(axes, found)
    else:
        for series in found:
            axes.plot(series.times, series.values, label=series.name, linewidth=1)
    axes.set_ylim(0, 1.1 * (axes.get_ylim()[1] or 1))
    axes.yaxis.set_major_locator(_steps(axes.get_ylim()[1], binary=defaults["unit"] == "bytes"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: UNITS[defaults["unit"]](value)))
    if found:
        _draw_clock(axes, panel["gridPos"]["w"])
        _draw_legend(axes)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _steps(top: float, *, binary: bool) -> Locator:
    """Ticks of the value axis; of bytes in powers of two, since 954 MiB is not a round number."""
    return MultipleLocator(2.0 ** round(math.log2(top / 4))) if binary else MaxNLocator(5)


def _draw_clock(axes: Axes, columns: int) -> None:
    """Label the time axis with whole minutes, as many as fit."""
    axes.xaxis_date()
    begin, end = axes.get_xlim()
    room = max(2, round(columns * COLUMN_INCHES / TICK_INCHES))
    step = next((step for step in MINUTES if (end - begin) * 1440 / step <= room), None)
    if step is None:  # for a single point matplotlib shows four years
        axes.xaxis.set_major_locator(AutoDateLocator(maxticks=room))  # type: ignore[no-untyped-call]
    else:
        axes.xaxis.set_major_locator(MinuteLocator(range(0, 60, step)))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]


def _draw_legend(axes: Axes) -> None:
    """Draw the legend below the axes, in as many columns as fit; the axes shrink for many rows."""
    names = [str(label) for label in axes.get_legend_handles_labels()[1]]
    at = axes.get_position()
    figure = axes.get_figure(root=True)
    inches = figure.get_size_inches() if figure else (1.0, 1.0)
    fitting = int(at.width * inches[0] / (0.35 + max(map(len, names)) * LETTER_INCHES))
    columns = min(max(1, fitting), len(names))
    more = (math.ceil(len(names) / columns) - 1) * LINE_INCHES / inches[1]
    axes.set_position((at.x0, at.y0 + more, at.width, at.height - more))
    below = -0.22 / (axes.get_position().height * inches[1])
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, below),
        ncols=columns,
        fontsize=6,
        columnspacing=1,
        frameon=False,
    )


def _stack(axes: Axes, found: list[Series]) -> None:
    times = sorted({time for series in found for time in series.times})
    rows = [dict(zip(series.times, series.values, strict=True)) for series in found]
    heights = [[row.get(time, 0.0) for time in times] for row in rows]
    axes.stackplot(times, heights, labels=[series.name for series in found])


def _draw_bars(axes: Axes, panel: dict[str, Any], found: list[Series]) -> None:
    """A line of text above each bar: its name to the left, its value to the right."""
    found = found[::-1]
    rows = max(len(found), 1)
    axes.barh(range(len(found)), [series.values[0] for series in found], height=BAR)
    axes.set_ylim(-0.5, rows)
    axes.axis("off")
    height = axes.get_window_extent().height / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    look: dict[str, Any] = {"fontsize": min(7.0, 0.5 * 72 * height / (rows + 0.5)), "va": "bottom"}
    for row, series in enumerate(found):
        for at, side, text in (0, "left", series.name), (1, "right", _short(series.values[0])):
            above = axes.get_yaxis_transform()
            axes.text(at, row + BAR / 2, text, ha=side, transform=above, **look)


def _draw_list(axes: Axes, panel: dict[str, Any], found: list[Series]) -> None:
    axes.axis("off")
    names = sorted(series.name for series in found)
    colour = COLOURS["red" if names else "green"]
    look: dict[str, Any] = {"va": "center", "size": 9, "weight": "bold", "color": colour}
    axes.text(0.02, 0.5, "\n".join(names) or "none", **look)


DRAW = {
    "stat": _draw_stat,
    "timeseries": _draw_series,
    "bargauge": _draw_bars,
    "alertlist": _draw_list,
}


def picture_of(source: Source) -> Figure:
    """All panels at their positions in the dashboard."""
    panels = dashboard()["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    size = (COLUMNS * COLUMN_INCHES, rows * ROW_INCHES)
    figure = Figure(figsize=size, facecolor="#f4f5f5", dpi=90)
    for panel in panels:
        at = panel["gridPos"]
        if panel["type"] == "row":
            figure.text(0.006, 1 - (at["y"] + 0.8) / rows, panel["title"], size=11, weight="bold")
            continue
        card = _card(figure, at, rows)
        card.text(0.3 / at["w"], 1 - 0.7 / at["h"], panel["title"], size=8, va="center")
        axes = figure.add_axes(_inside(card.get_position(), at, panel["type"]))
        axes.tick_params(labelsize=6)
        DRAW[panel["type"]](axes, panel, source.ask(panel))
    return figure


def _card(figure: Figure, at: dict[str, int], rows: int) -> Axes:
    """The background of one panel, with a gap to the next."""
    left = (at["x"] + GAP) / COLUMNS
    bottom = 1 - (at["y"] + at["h"] - GAP) / rows
    card = figure.add_axes(
        (left, bottom, (at["w"] - 2 * GAP) / COLUMNS, (at["h"] - 2 * GAP) / rows),
        xticks=[],
        yticks=[],
    )
    for side in card.spines.values():
        side.set_color("#d8d9da")
    return card


def _inside(card: Bbox, at: dict[str, int], kind: str) -> tuple[float, float, float, float]:
    """The area of the axes: below the title, with room for labels to the left and below."""
    beside, below = (1.1, 1.9) if kind == "timeseries" else (0.3, 0.3)  # in Grafana's units
    column = card.width / at["w"]
    row = card.height / at["h"]
    return (
        card.x0 + beside * column,
        card.y0 + below * row,
        card.width - (beside + 0.3) * column,
        card.height - (below + 1.5) * row,
    )


def draw(source: Source, path: Path) -> None:
    """Write the picture to a file."""
    picture_of(source).savefig(path)


if __name__ == "__main__":
    url, picture, minutes = (*sys.argv[1:], "15")[:3]
    draw(Source(url, time.time(), int(minutes) * 60), Path(picture))

"""Draw each dashboard's queries from a Prometheus, as one picture a board.

    python grafana/draw.py http://127.0.0.1:9090 OUT --minutes 60

For documents and tests: what Grafana would show, without Grafana. Needs matplotlib (``.[lab]``).
"""

from __future__ import annotations

import argparse
import json
import math
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import FuncFormatter

HERE = Path(__file__).parent
COLOURS = {"green": "#1a7f4b", "yellow": "#b7791f", "red": "#b3261e", "blue": "#2458a6"}
INK, SOFT, LINE = "#16222b", "#51626e", "#d9e1e6"
CELL_WIDTH, CELL_HEIGHT = 0.62, 0.33  # inches of a grid unit

Series = list[tuple[dict[str, str], list[tuple[float, float]]]]


class Asked:
    """A Prometheus, asked for one span of time."""

    def __init__(self, url: str, minutes: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)
        self.end = time.time()
        self.start = self.end - 60 * minutes
        self._step = max(1.0, 60 * minutes / 240)

    def series(self, query: str) -> Series:
        """(labels, [(moment, value)]) of each series."""
        query = query.replace("$__rate_interval", f"{max(20, round(4 * self._step))}s")
        query = query.replace("$device", ".+")
        span = {"start": self.start, "end": self.end, "step": self._step}
        answer = self._client.get("/api/v1/query_range", params={"query": query, **span})
        answer.raise_for_status()
        return [
            (one["metric"], [(float(at), float(value)) for at, value in one["values"]])
            for one in answer.json()["data"]["result"]
        ]


def main() -> None:
    """Draw all boards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    asked = Asked(wanted.url, wanted.minutes)
    for file in sorted((HERE / "dashboards").glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        draw(board, asked, wanted.out / f"dashboard-{file.stem}.png")


def draw(board: dict[str, Any], asked: Asked, file: Path) -> None:
    """One board, its panels where Grafana has them."""
    panels = board["panels"]
    high = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 2
    figure = plt.figure(figsize=(24 * CELL_WIDTH, high * CELL_HEIGHT), facecolor="#f5f7f8")
    figure.text(0.01, 1 - 0.9 / high, board["title"], fontsize=15, weight="bold", color=INK)
    for panel in panels:
        place = panel["gridPos"]
        x, w = place["x"] / 24, place["w"] / 24
        y, h = 1 - (place["y"] + 2 + place["h"]) / high, place["h"] / high
        if panel["type"] == "row":
            figure.text(x + 0.01, y + 0.3 * h, panel["title"], fontsize=11, color=SOFT)
            continue
        found = [
            (target["legendFormat"], asked.series(target["expr"])) for target in panel["targets"]
        ]
        if panel["type"] == "stat":
            axes = figure.add_axes((x + 0.004, y + 0.25 / high, w - 0.008, h - 0.5 / high))
            _tile(axes, panel, found)
        else:
            axes = figure.add_axes((x + 0.035, y + 2.4 / high, w - 0.05, h - 3.6 / high))
            _graph(axes, panel, found, asked)
    figure.savefig(file, dpi=75)
    plt.close(figure)


def _tile(axes: Axes, panel: dict[str, Any], found: list[tuple[str, Series]]) -> None:
    values = [points[-1][1] for _, series in found for _, points in series if points]
    value = values[0] if values else math.nan
    defaults = panel["fieldConfig"]["defaults"]
    colour = "blue"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    axes.set_facecolor(COLOURS.get(colour, SOFT))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(0.05, 0.8, panel["title"], color="white", fontsize=9, transform=axes.transAxes)
    text = "no data" if math.isnan(value) else written(value, defaults["unit"])
    axes.text(
        0.5, 0.38, text, color="white", fontsize=19, ha="center", va="center",
        weight="bold", transform=axes.transAxes,
    )  # fmt: skip


def _graph(
    axes: Axes, panel: dict[str, Any], found: list[tuple[str, Series]], asked: Asked
) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    lines = [
        (_legend(legend, labels), [at for at, _ in points], [value for _, value in points])
        for legend, series in found
        for labels, points in series
    ]
    some = [line for line in lines if any(line[2])]
    lines = some or lines  # what is 0 all the time only fills the legend
    if defaults["custom"]["stacking"]["mode"] == "normal":
        moments = sorted({at for _, ats, _ in lines for at in ats})
        stacked = [
            [dict(zip(ats, values, strict=True)).get(at, 0.0) for at in moments]
            for _, ats, values in lines
        ]
        names = [name for name, _, _ in lines]
        if moments:
            axes.stackplot(_dates(moments), stacked, labels=names, alpha=0.75)
            sums = [sum(column) for column in zip(*stacked, strict=True)]
            lines.append(("", moments, sums))
    else:
        for name, ats, values in lines:
            axes.plot(_dates(ats), values, label=name, linewidth=1.3)
    for step in defaults.get("thresholds", {}).get("steps", ()):
        limit = step["value"] is not None and step["color"] == "red"
        if limit and step["value"] < 3 * _bounds(lines)[1]:
            axes.axhline(step["value"], color=COLOURS["red"], linewidth=0.8, linestyle="--")
    axes.set_title(panel["title"], fontsize=9.5, loc="left", color=INK)
    axes.set_xlim(*_dates([asked.start, asked.end]))
    lowest, highest = _bounds(lines)
    axes.set_ylim(min(0.0, 1.1 * lowest), 1.1 * highest if highest > 0 else 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: written(y, defaults["unit"])))
    locator = AutoDateLocator(maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.tick_params(labelsize=7, colors=SOFT)
    axes.grid(visible=True, color=LINE, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_color(LINE)
    if axes.get_legend_handles_labels()[1] and len(lines) <= 13:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=6.5, frameon=False
        )


def _bounds(lines: list[tuple[str, list[float], list[float]]]) -> tuple[float, float]:
    """(the least value, the greatest: of lines that are stacked, of their sum)."""
    values = [value for _, _, values in lines for value in values if math.isfinite(value)]
    return min(values, default=0.0), max(values, default=0.0)


def _legend(template: str, labels: dict[str, str]) -> str:
    text = template
    for name, value in labels.items():
        text = text.replace("{{" + name + "}}", value)
    return textwrap.shorten(text.strip() or "value", 26, placeholder="…")


def _dates(moments: list[float]) -> list[float]:
    return [float(date2num(datetime.fromtimestamp(at, UTC))) for at in moments]


def written(value: float, unit: str) -> str:
    """A number with its unit, short."""
    if not math.isfinite(value):
        return "–"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit in ("bytes", "Bps"):
        power = min(4, int(math.log(abs(value), 1024))) if abs(value) >= 1024 else 0
        ending = ("B", "KiB", "MiB", "GiB", "TiB")[power] + ("/s" if unit == "Bps" else "")
        return f"{value / 1024**power:.3g} {ending}"
    if unit == "s" and abs(value) < 1 and value:
        return f"{1000 * value:.3g} ms"
    if unit == "s" and abs(value) >= 7_200:
        return f"{value / 3_600:.3g} h"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    ending = {"s": " s", "watt": " W", "celsius": " °C"}.get(unit, "")
    return f"{value:.3g}{ending}"


if __name__ == "__main__":
    main()

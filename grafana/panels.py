"""Pieces of Grafana dashboards as plain dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Panel = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "$datasource"}
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
WIDTH = 24
"""Columns of a dashboard."""


def tile(
    title: str,
    query: str,
    text: str,
    *,
    unit: str = "short",
    steps: Sequence[tuple[float | None, str]] = ((None, BLUE),),
    decimals: int | None = None,
) -> Panel:
    """One number. ``steps``: (from this value on, colour); the first has None. 4 by 4."""
    panel = _panel("stat", title, text, [target(query)], unit, 4, 4)
    panel["fieldConfig"]["defaults"]["thresholds"] = _thresholds(steps)
    if decimals is not None:
        panel["fieldConfig"]["defaults"]["decimals"] = decimals
    panel["options"] = {
        "colorMode": "background_solid",
        "graphMode": "area",
        "reduceOptions": {"calcs": ["lastNotNull"]},
    }
    return panel


def graph(
    title: str,
    text: str,
    *queries: tuple[str, str],
    unit: str = "short",
    stacked: bool = False,
    red_from: float | None = None,
) -> Panel:
    """Lines over time: (query, legend) each. ``red_from`` draws a limit. 8 by 8."""
    targets = [target(query, legend, ref) for ref, (query, legend) in _named(queries)]
    panel = _panel("timeseries", title, text, targets, unit, 8, 8)
    custom = {
        "fillOpacity": 25 if stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none"},
    }
    if red_from is not None:
        custom["thresholdsStyle"] = {"mode": "line"}
        steps = ((None, "transparent"), (red_from, RED))
        panel["fieldConfig"]["defaults"]["thresholds"] = _thresholds(steps)
    panel["fieldConfig"]["defaults"]["custom"] = custom
    panel["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": True},
    }
    return panel


def row(title: str) -> Panel:
    """A heading."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "w": WIDTH, "h": 1}


def target(query: str, legend: str = "", ref: str = "A") -> dict[str, Any]:
    """One query."""
    return {"datasource": DATASOURCE, "expr": query, "legendFormat": legend, "refId": ref}


def dashboard(
    uid: str, title: str, text: str, panels: Sequence[Panel], variables: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A dashboard whose panels flow from left to right, row by row."""
    placed, x, y, high = [], 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        one = dict(panel)
        width, height = one.pop("w"), one.pop("h")
        if x + width > WIDTH or height != high:  # a line holds panels of one height
            x, y, high = 0, y + high, 0
        one |= {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
        x, high = x + width, max(high, height)
        placed.append(one)
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["inferpool"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "links": [
            {
                "type": "dashboards",
                "title": "inferpool",
                "tags": ["inferpool"],
                "asDropdown": False,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                },
                *variables,
            ]
        },
        "annotations": {"list": []},
        "panels": placed,
    }


def variable(name: str, label: str, metric: str) -> dict[str, Any]:
    """The values of a label of a metric, several at once, all at first."""
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "A"},
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }


def _panel(
    kind: str, title: str, text: str, targets: list[dict[str, Any]], unit: str, w: int, h: int
) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "w": w,
        "h": h,
    }


def _named(queries: Sequence[tuple[str, str]]) -> list[tuple[str, tuple[str, str]]]:
    return [(chr(ord("A") + number), query) for number, query in enumerate(queries)]


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> dict[str, Any]:
    return {
        "mode": "absolute",
        "steps": [{"value": value, "color": color} for value, color in steps],
    }

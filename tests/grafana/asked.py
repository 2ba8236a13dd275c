"""What dashboards and alerts ask of Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "grafana"
RULES = GRAFANA / "prometheus" / "alerts.yml"

_METRIC = re.compile(r"\b(?:inferpool|process)_[a-z0-9_]+")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def queries() -> Iterator[tuple[str, str, str]]:
    """(dashboard, panel, query) of every panel."""
    for file in sorted((GRAFANA / "dashboards").glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield file.stem, panel["title"], target["expr"]


def metrics_in(text: str) -> set[str]:
    """Names of metrics in a query or a file of rules; of histograms without their suffix."""
    return {_SUFFIX.sub("", name) for name in _METRIC.findall(text)}

"""Dashboards and alerts ask only for what the code tells, and each alert says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
from asked import GRAFANA, ROOT, RULES, metrics_in, queries
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from gpu_worker.metrics import TelemetryCollector
from gpu_worker.telemetry import DeviceTelemetry, Telemetry
from pool.app import build_pool
from pool.config import Config, MetricsConfig
from pool.store import Store
from shares.board.events import SessionOpened

CONFIG = Config(metrics=MetricsConfig(top_rigs=3))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: .ci/system-programs (Debian's prometheus)",
)


def rig_registry() -> CollectorRegistry:
    """What a rig with a GPU and its sensors exports."""
    device = DeviceTelemetry("gpu0", kind="NVIDIA H200", state="ready")
    device.energy_joules, device.power_watts, device.temperature = 10.0, 300.0, 61.0
    device.memory_used, device.memory_total, device.utilisation = 1, 2, 0.9
    device.throttled = False
    device.idle_seconds["no_share"] = 1.0
    telemetry = Telemetry(devices=[device])
    telemetry.busy_seconds["compute"] += 1.0
    telemetry.parts_refused["bad"] += 1
    telemetry.shares_lost["released"] += 1
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(telemetry))
    return registry


def names(registry: CollectorRegistry) -> set[str]:
    found = set()
    for metric in registry.collect():
        found |= (
            {metric.name, f"{metric.name}_total"} if metric.type == "counter" else {metric.name}
        )
    return found


@pytest.fixture
def exported(tmp_path: Path) -> bytes:
    """What a pool exports, of samples that come with events too."""

    async def export() -> bytes:
        store = Store.open(tmp_path, durable=False)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        pool = build_pool(CONFIG, store, inline=True, start=1.0, registry=registry)
        statistics = pool.gateway.statistics
        for counts in (statistics.refused, statistics.authorisations):
            counts["ok"] += 1
        for counts in (statistics.violations, statistics.malformed):
            counts["bad_message"] += 1
        pool.ledger_watch.look()
        await pool.job_watch.look()
        pool.job_watch.slack, pool.job_watch.bytes = 60.0, {"database": 1}
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.core.run)
            opened = SessionOpened(at=1.0, session=1, account="alice", rig="rig", credit=3)
            pool.core.handle(opened)
            await pool.rig_watch.look()
            text = generate_latest(pool.metrics.registry)
            nursery.cancel_scope.cancel()
        store.close()
        return text

    return trio.run(export)


def told(text: bytes) -> set[str]:
    """Names by the TYPE lines of an exposition."""
    return set(re.findall(r"^# TYPE (\S+)", text.decode(), re.MULTILINE))


def missing(asked: Iterable[str], known: set[str]) -> list[str]:
    return sorted(set(asked) - known)


def test_the_dashboards_are_as_the_script_makes_them() -> None:
    done = subprocess.run(
        [sys.executable, str(GRAFANA / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_no_panel_and_no_alert_asks_for_what_nobody_tells(exported: bytes) -> None:
    known = told(exported) | names(rig_registry())
    for board, panel, query in queries():
        assert missing(metrics_in(query), known) == [], (board, panel)
    assert missing(metrics_in(RULES.read_text()), known) == []


def test_every_panel_says_what_it_shows_and_names_its_metric() -> None:
    for file in sorted((GRAFANA / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            if panel["type"] == "row":
                continue
            asked = set().union(*(metrics_in(one["expr"]) for one in panel["targets"])) or {"up"}
            assert any(name in panel["description"] for name in asked), panel["title"]


def test_every_alert_has_its_section_in_the_runbook() -> None:
    text = (ROOT / "docs" / "OPERATING.md").read_text()
    anchors = {
        title.strip().lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.M)
    }
    rules = RULES.read_text()
    links = re.findall(r"runbook_url: docs/OPERATING\.md#(\S+)", rules)
    assert len(links) == len(re.findall(r"- alert:", rules))
    assert set(links) <= anchors
    tested = (GRAFANA / "prometheus" / "alerts.test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", rules):
        assert f"alertname: {alert}\n" in tested, f"{alert} is not tested"


@needs_promtool
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *words], cwd=GRAFANA / "prometheus", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_metrics_follow_prometheus_rules(exported: bytes) -> None:
    for text in (exported, generate_latest(rig_registry())):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()

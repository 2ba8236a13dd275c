"""A real Prometheus reads a real pool and its rigs: every panel has data, and an alert fires."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from asked import RULES, queries
from harness import (
    SETTINGS,
    Pool,
    Process,
    digest_lines,
    free_ports,
    inferpool,
    pool_with_rigs,
    submit,
    wait_for_batch,
)
from prometheus_client import CollectorRegistry

from gpu_worker.metrics import TelemetryCollector, serve_metrics
from gpu_worker.telemetry import DeviceTelemetry, Telemetry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is not installed: .ci/system-programs (Debian's prometheus)",
    ),
]


class Prometheus:
    """One that reads every second, with our rules, their patience taken away."""

    def __init__(self, folder: Path, targets: dict[str, list[int]]) -> None:
        (self.port,) = free_ports(1)
        rules = re.sub(r"(\bfor: )\w+", r"\g<1>0s", RULES.read_text())
        folder.mkdir()
        (folder / "alerts.yml").write_text(rules)
        jobs = "".join(
            f"  - job_name: {name}\n    static_configs:\n      - targets: "
            f"{[f'127.0.0.1:{port}' for port in ports]}\n"
            for name, ports in targets.items()
        )
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [alerts.yml]\nscrape_configs:\n{jobs}"
        )
        self.process = Process(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ]
        )

    def get(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", params=query, timeout=10)
        found = answer.json()
        assert found["status"] == "success", found
        return found["data"]

    def until(self, what: str, condition: Any, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"{what}\n{self.process.log()[-2000:]}")

    def has_data(self, query: str) -> bool:
        query = query.replace("$__rate_interval", "20s").replace("$device", ".+")
        return bool(self.get("query", query=query)["result"])

    def firing(self) -> set[str]:
        alerts = self.get("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


@pytest.fixture
def gpu() -> int:
    """The exporter of a rig with a GPU whose sensors tell; the machine of the tests has none."""
    device = DeviceTelemetry("gpu0", kind="NVIDIA H200", state="ready", temperature=91.0)
    device.power_watts, device.utilisation, device.throttled = 310.0, 0.97, True
    device.memory_used, device.memory_total = 20 << 30, 141 << 30
    telemetry = Telemetry(devices=[device], connected=True)
    registry = CollectorRegistry()

    class Working(TelemetryCollector):
        def collect(self) -> Iterator[Any]:
            device.rows += 1_000
            device.tokens += 20_000
            device.energy_joules += 300.0
            return super().collect()

    registry.register(Working(telemetry))
    return serve_metrics(registry, 0)


def test_every_panel_has_data_and_a_provoked_fault_fires(tmp_path: Path, gpu: int) -> None:
    with pool_with_rigs(tmp_path / "pool", {}, SETTINGS) as (pool, _):
        rig_port, other_port = free_ports(2)
        tokens = {name: pool.account(name, "miner") for name in ("alice", "mallory")}
        pool.start()
        rigs = [
            worker(pool, "alice", tokens["alice"], rig_port),
            worker(pool, "mallory", tokens["mallory"], other_port),
        ]
        targets = {"inferpool": [pool.http_port], "inferpool-rig": [rig_port, other_port, gpu]}
        prometheus = Prometheus(tmp_path / "prometheus", targets)
        try:
            with pool.client("carol") as client:
                for seed in range(4):  # counters of which the first value came with the first look
                    batch = submit(client, digest_lines(2_000, seed=seed))
                    assert wait_for_batch(client, batch)["status"] == "completed"
                    time.sleep(2)
                empty = dict.fromkeys(queries())
                prometheus.until("Prometheus does not answer", lambda: prometheus.has_data("up"))

                def all_there() -> bool:
                    for one in list(empty):
                        if prometheus.has_data(one[2]):
                            del empty[one]
                    submit(client, digest_lines(500, seed=99))
                    return not empty

                try:
                    prometheus.until("panels without data", all_there)
                except AssertionError:
                    raise AssertionError(f"panels without data: {list(empty)}") from None
            assert {"RigHot"} <= prometheus.firing()
            assert not {"PoolDown", "LedgerImbalance", "NoAudits"} & prometheus.firing()
            assert pool.process is not None
            pool.process.kill()
            prometheus.until("PoolDown does not fire", lambda: "PoolDown" in prometheus.firing())
            prometheus.until("RigDown does not fire", lambda: "RigDown" in prometheus.firing())
        finally:
            for process in (*rigs, prometheus.process):
                process.kill()


def worker(pool: Pool, name: str, token: str, port: int) -> Process:
    return Process(
        inferpool(
            "worker",
            *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}"),
            *("--user", f"{name}.rig", "--token-file", token, "--backend", "numpy"),
            *("--cache", str(pool.folder / f"cache-{name}"), "--metrics-port", str(port)),
        )
    )

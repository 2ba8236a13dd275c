"""A real Prometheus reads a real pool and its rigs: every panel has data, and an alert fires."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from asked import GRAFANA, RULES, queries
from harness import (
    SETTINGS,
    Pool,
    Process,
    Rig,
    digest_lines,
    free_ports,
    inferpool,
    pool_with_rigs,
    submit,
    wait_for_batch,
)
from prometheus_client import CollectorRegistry
from sqlalchemy import insert

from gpu_worker.metrics import TelemetryCollector, serve_metrics
from gpu_worker.telemetry import DeviceTelemetry, Telemetry
from pool.store import schema

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="prometheus is not installed: .ci/system-programs (Debian's prometheus)",
    ),
]


class Prometheus:
    """One that reads every second, with our rules, their patience taken away."""

    def __init__(self, folder: Path, targets: dict[str, list[int]], manager: int) -> None:
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
            "alerting:\n  alertmanagers:\n    - static_configs:\n"
            f"        - targets: ['127.0.0.1:{manager}']\n"
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
        answer.raise_for_status()  # 503 while it starts
        found = answer.json()
        assert found["status"] == "success", found
        return found["data"]

    def until(self, what: str, condition: Any, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"{what}\n{self.process.log()[-2000:]}")

    def has_data(self, query: str) -> bool:
        query = query.replace("$__rate_interval", "20s").replace("$device", ".+")
        return bool(self.get("query", query=query)["result"])

    def firing(self) -> set[str]:
        alerts = self.get("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


@dataclass
class Gpu:
    """The exporter of a rig with a GPU whose sensors tell; the machine of the tests has none."""

    device: DeviceTelemetry
    port: int


@pytest.fixture
def gpu() -> Gpu:
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
    return Gpu(device, serve_metrics(registry, 0))


LIARS = tuple(f"mallory-{number}" for number in range(5))


def test_every_panel_has_data_and_provoked_faults_fire(tmp_path: Path, gpu: Gpu) -> None:
    hook_port, manager_port = free_ports(2)
    (tmp_path / "secret").write_text("between Alertmanager and the pool\n")
    settings = (
        f"{SETTINGS}[metrics]\ntop_rigs = 2\n[notifications]\n"
        f'operator_webhook = "http://127.0.0.1:{hook_port}/"\nper_hour = 60\n'
        f'alerts_secret_file = "{tmp_path / "secret"}"\n'
        "[batches]\ncompletion_window_seconds = 40\n"
    )
    with (
        pool_with_rigs(tmp_path / "pool", {}, settings) as (pool, _),
        operators_webhook(hook_port) as heard,
    ):
        ports = free_ports(2)
        tokens = {name: pool.account(name, "miner") for name in ("alice", "bob", "dave", *LIARS)}
        pool.start()
        rigs = [
            worker(pool, name, tokens[name], port)
            for name, port in zip(("alice", "bob"), ports, strict=True)
        ]
        liars = [liar(pool, name, tokens[name]) for name in LIARS]
        targets = {"inferpool": [pool.http_port], "inferpool-rig": [*ports, gpu.port]}
        manager = alertmanager(tmp_path, pool, manager_port)
        prometheus = Prometheus(tmp_path / "prometheus", targets, manager_port)
        try:
            # A counter's first value is no increase: it must have been read before it counts.
            prometheus.until("no data", lambda: prometheus.has_data("inferpool_offences_total"))
            with pool.client("carol") as client:
                for seed in range(4):  # counters of which the first value came with the first look
                    batch = submit(client, digest_lines(2_000, seed=seed))
                    assert wait_for_batch(client, batch)["status"] == "completed"
                    time.sleep(2)
                more = digest_lines(500, seed=99)
                every_panel(prometheus, lambda: submit(client, more))
                fires(
                    prometheus,
                    *("RigHot", "RigThrottled", "FraudSpike"),
                    meanwhile=lambda: submit(client, more),
                )
            assert not {"PoolDown", "LedgerImbalance", "NoAudits"} & prometheus.firing()
            if manager is not None:
                prometheus.until("the operator hears nothing", lambda: "RigHot" in heard())
            with pool.client("carol") as client:
                pictures(prometheus, tmp_path / "pictures", client)
            gpu.device.state = "left out"
            payout_that_waits(pool)
            for process in rigs:
                process.kill()
            slow = Rig(pool, "dave.rig", tokens["dave"], 100.0)  # and a batch of a minute
            rigs.append(slow.process)
            assert pool.process is not None
            pool.process.text('"account": "dave"')
            with pool.client("carol") as client:
                submit(client, digest_lines(6_000, seed=7))
                fires(prometheus, "DeadlineAtRisk", "DeviceLeftOut", "PayoutsStuck")
                slow.process.kill()
                with ThreadPoolExecutor(1) as aside:  # nobody is there to answer it
                    body = {"model": "blake2b", "input": [[1]]}
                    asked = aside.submit(client.post, "/digests", json=body, timeout=120)
                    fires(prometheus, "NobodyWorks", "RigDown", "QueueAge")
                    asked.result()
            assert pool.process is not None
            assert pool.process.stop() == 0
            fires(prometheus, "PoolDown")
            tamper(pool)
            pool.start()
            fires(prometheus, "LedgerImbalance")
        finally:
            for process in (*rigs, *liars, prometheus.process, *([manager] if manager else [])):
                process.kill()


def alertmanager(folder: Path, pool: Pool, port: int) -> Process | None:
    """Debian's, with our settings, which wait for nothing; None where it is not installed."""
    if shutil.which("prometheus-alertmanager") is None:
        return None
    text = (GRAFANA / "alertmanager" / "alertmanager.yml").read_text()
    text = text.replace("http://pool:8080", pool.url).replace("/alerts/secret", f"{folder}/secret")
    file = folder / "alertmanager.yml"
    file.write_text(text.replace("group_wait: 30s", "group_wait: 1s"))
    return Process(
        [
            "prometheus-alertmanager",
            f"--config.file={file}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
    )


@contextlib.contextmanager
def operators_webhook(port: int) -> Iterator[Callable[[], str]]:
    """The operator's own receiver; yields what says all that it heard."""
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield lambda: "\n".join(got)
        finally:
            server.shutdown()
            thread.join()


def every_panel(prometheus: Prometheus, work: Callable[[], object]) -> None:
    """Until each query of each dashboard has had data, while ``work`` is brought."""
    empty = dict.fromkeys(queries())
    prometheus.until("Prometheus does not answer", lambda: prometheus.has_data("up"))

    def all_there() -> bool:
        for one in list(empty):
            if prometheus.has_data(one[2]):
                del empty[one]
        work()
        return not empty

    try:
        prometheus.until("panels without data", all_there)
    except AssertionError:
        raise AssertionError(f"panels without data: {list(empty)}") from None


def fires(
    prometheus: Prometheus, *alerts: str, meanwhile: Callable[[], object] = lambda: None
) -> None:
    def there(alert: str) -> bool:
        meanwhile()
        return alert in prometheus.firing()

    for alert in alerts:
        prometheus.until(f"{alert} does not fire", partial(there, alert))


def payout_that_waits(pool: Pool) -> None:
    """One that a person must decide on."""
    with pool.store() as store, store.database.write() as connection:
        connection.execute(insert(schema.payout_round).values(id=1, opened=1.0, closed=1.0))
        row = {"id": 1, "key": "k", "round": 1, "account": "alice", "units": 500}
        row |= {"kind": "text", "address": "a", "state": "manual", "created": 1.0, "changed": 1.0}
        connection.execute(insert(schema.payout).values(**row))


def tamper(pool: Pool) -> None:
    """What no command of ours does: a unit more in an old entry of the ledger."""
    with sqlite3.connect(pool.folder / "inferpool.db") as connection:
        connection.execute("UPDATE entry SET amount = amount + 1 WHERE seq = 1")
    connection.close()


def pictures(prometheus: Prometheus, out: Path, client: httpx.Client) -> None:
    """Each dashboard's queries, drawn from what this Prometheus has.

    INFERPOOL_PICTURES names a folder where they are wanted: then of a pool that works for minutes.
    """
    wanted = os.environ.get("INFERPOOL_PICTURES")
    ends = time.monotonic() + (240 if wanted else 0)
    seed = 100
    while time.monotonic() < ends:
        seed += 1
        submit(client, digest_lines(4_000 + 3_000 * (seed % 5), seed=seed))
        time.sleep(3)
    url = f"http://127.0.0.1:{prometheus.port}"
    minutes = "5" if wanted else "1"
    command = [sys.executable, str(GRAFANA / "draw.py"), url, str(out), "--minutes", minutes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    boards = {file.stem for file in (GRAFANA / "dashboards").glob("*.json")}
    assert {file.stem for file in out.glob("*.png")} == {f"dashboard-{name}" for name in boards}
    assert all(file.stat().st_size > 20_000 for file in out.glob("*.png"))
    if wanted:
        shutil.copytree(out, wanted, dirs_exist_ok=True)


def liar(pool: Pool, name: str, token: str) -> Process:
    return Process(
        [
            *(sys.executable, "-m", "pool.demo.cheat"),
            *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}"),
            *("--user", f"{name}.rig", "--token-file", token),
            *("--cache", str(pool.folder / f"cache-{name}")),
        ]
    )


def worker(pool: Pool, name: str, token: str, port: int) -> Process:
    return Process(
        inferpool(
            "worker",
            *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}"),
            *("--user", f"{name}.rig", "--token-file", token, "--backend", "numpy"),
            *("--cache", str(pool.folder / f"cache-{name}"), "--metrics-port", str(port)),
        )
    )

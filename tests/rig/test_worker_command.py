"""``inferpool worker`` as a miner meets it: its options, its refusals, a real process."""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog
import trio
import trustme
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from scripted_pool import PoolSession, ScriptedPool, digests_of, rows_of

from gpu_worker.commands.worker import worker
from gpu_worker.config import PoolAddress, RigConfig
from gpu_worker.engine import EngineError
from gpu_worker.metrics import TelemetryCollector
from gpu_worker.rig import NoDevices, Rig
from gpu_worker.telemetry import Telemetry, count_reason
from stratum import messages as wire
from stratum.server import open_listeners

POOL = "stratum+tcp://127.0.0.1:1"


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret\n")
    path.chmod(0o600)
    return path


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(worker, arguments)
    assert result.exit_code != 0
    assert not isinstance(result.exception, Exception), result.exception
    return " ".join(result.output.replace("│", " ").split())


def test_help_has_an_example() -> None:
    """The example is a whole command."""
    result = CliRunner().invoke(worker, ["--help"])

    assert result.exit_code == 0
    assert "inferpool worker --pool stratum+tcp://" in result.output


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--pool", "http://pool.example", "stratum+tcp://HOST:PORT"),
        ("--user", "alice", "exactly one dot"),
        ("--user", "alice.rig.1", "exactly one dot"),
        ("--user", "Alice.rig", "account name 'Alice'"),
        ("--token-file", "/nowhere/token", "No such file"),
        ("--backend", "cupy", "CuPy is not installed: pip install"),
        ("--devices", "gpu0", "must be all, GPU numbers such as 0,2"),
        ("--devices", "all", "CuPy is not installed: pip install"),
        ("--threads", "0", "--threads"),
        ("--credit", "0", "--credit"),
        ("--ca", "/nowhere/ca.pem", "--ca"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(
    token: Path, option: str, value: str, words: str
) -> None:
    """Nothing is dialled; the text names the option or the value, and the remedy."""
    options = {"--pool": POOL, "--user": "alice.rig1", "--token-file": str(token), option: value}

    assert words in refused(*(word for pair in options.items() for word in pair))


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xfe"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, blank, too much, not text."""
    path = tmp_path / "token"
    path.write_bytes(content)

    text = refused("--pool", POOL, "--user", "a.b", "--token-file", str(path))
    assert "--token-file" in text


def test_a_machine_that_computes_other_bits_is_refused(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canaries' reason is what the miner reads."""
    from gpu_worker.commands import worker as command  # noqa: F401 - the module is patched

    def sick() -> None:
        raise EngineError("this thread flushes denormals to zero")

    monkeypatch.setattr(sys.modules["gpu_worker.commands.worker"], "check_canaries", sick)

    text = refused("--pool", POOL, "--user", "a.b", "--token-file", str(token))
    assert "flushes denormals" in text


def test_a_processor_whose_golden_vectors_differ_is_refused(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is dialled; the operation is named."""

    def wrong(backend: str) -> None:
        raise EngineError("gelu in exact8 differs at output")

    monkeypatch.setattr(sys.modules["gpu_worker.commands.worker"], "check_golden", wrong)

    text = refused("--pool", POOL, "--user", "a.b", "--token-file", str(token))
    assert "this machine cannot compute for a pool: gelu in exact8 differs" in text


def test_a_rig_without_a_device_that_can_compute_ends_with_the_reason(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line and status 1, however deep in tasks it was found out."""

    async def run(rig: Rig, **_: Any) -> None:
        raise ExceptionGroup("tasks", [NoDevices("gpu0: its golden vectors differ")])

    module = sys.modules["gpu_worker.commands.worker"]
    monkeypatch.setattr(module, "run_until_signalled", run)
    monkeypatch.setattr(module, "check_golden", lambda backend: None)

    text = refused("--pool", POOL, "--user", "a.b", "--token-file", str(token), "--threads", "1")
    assert "no device of this machine can compute" in text
    assert "gpu0: its golden vectors differ" in text


WITHOUT_GOLDEN_VECTORS = """
import sys
import gpu_worker.commands.worker
module = sys.modules["gpu_worker.commands.worker"]
module.check_golden = lambda backend: None
module.worker()
"""
"""They take seconds of computing, which one of these tests is enough for."""


class Process:
    """A rig in a process of its own, and what it logged."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []

    async def read(self) -> None:
        assert self.process.stderr is not None
        rest = b""
        async for data in self.process.stderr:
            *lines, rest = (rest + data).split(b"\n")
            self.log += [json.loads(line) for line in lines]

    async def logged(self, event: str, **facts: object) -> dict[str, Any]:
        with trio.fail_after(60):
            while True:
                for entry in self.log:
                    if {**entry, "event": event, **facts} == entry:
                        return entry
                await trio.sleep(0.01)

    async def exit_code(self) -> int:
        with trio.fail_after(60):
            return await self.process.wait()


@pytest.fixture
async def tcp_pool(nursery: trio.Nursery) -> ScriptedPool:
    """A scripted pool on a loopback port."""
    pool = ScriptedPool(nursery)
    listeners = await open_listeners("127.0.0.1", 0)
    pool.address = PoolAddress("127.0.0.1", listeners[0].socket.getsockname()[1])
    nursery.start_soon(partial(trio.serve_listeners, pool.serve, listeners))
    return pool


@pytest.fixture
async def start(nursery: trio.Nursery, tcp_pool: ScriptedPool, token: Path, tmp_path: Path):
    """``await start("--drain", "5")`` starts a worker's process against the pool."""
    started = []

    async def start_process(*options: str, checked: bool = False) -> Process:
        program = ("-m", "gpu_worker") if checked else ("-c", WITHOUT_GOLDEN_VECTORS)
        process = await trio.lowlevel.open_process(
            [
                *(sys.executable, *program, "--pool", str(tcp_pool.address)),
                *("--user", "alice.rig1", "--token-file", str(token), "--cache", str(tmp_path)),
                *options,
            ],
            stderr=-1,
        )
        started.append(process)
        rig = Process(process)
        nursery.start_soon(rig.read)
        return rig

    yield start_process
    for process in started:
        process.kill()
        await process.wait()


async def in_time(pool: ScriptedPool, number: int = 0) -> PoolSession:
    with trio.fail_after(60):
        return await pool.session(number)


async def test_sigterm_drains_a_real_process(tcp_pool, start) -> None:
    """It computes, waits for what is not acknowledged, takes nothing new, and exits with 0."""
    rig = await start(checked=True)
    session = await in_time(tcp_pool)
    rows = rows_of(600)
    session.give(1, rows)
    with trio.fail_after(60):
        await tcp_pool.until(lambda: len(tcp_pool.rows(1)) == 600)
    assert tcp_pool.rows(1) == digests_of(rows)

    tcp_pool.on_submit = lambda *_: "silence"
    session.give(2, rows_of(5))
    with trio.fail_after(60):
        await tcp_pool.until(lambda: session.of(wire.Submit)[-1].lease == 2)
    rig.process.send_signal(signal.SIGTERM)
    await rig.logged("stopping")
    session.give(3, rows_of(5))
    with trio.fail_after(60):
        await tcp_pool.until(lambda: session.of(wire.Release))
    assert rig.process.poll() is None
    session.connection.accept(session.of(wire.Submit)[-1])

    assert await rig.exit_code() == 0
    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(3, "stopping")]
    assert (await rig.logged("rig stopped"))["shares"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_it_at_once(tcp_pool, start, number) -> None:
    """Whatever is unacknowledged is left behind."""
    rig = await start("--drain", "1000")
    session = await in_time(tcp_pool)
    tcp_pool.on_submit = lambda *_: "silence"
    session.give(1, rows_of(5))
    with trio.fail_after(60):
        await tcp_pool.until(lambda: session.of(wire.Submit))
    rig.process.send_signal(number)
    await rig.logged("stopping")

    rig.process.send_signal(number)

    assert await rig.exit_code() == -number


async def test_sigusr2_changes_the_log_to_debug_and_back(tcp_pool, start) -> None:
    """While it runs, and its lines name lease, account, rig and session."""
    rig = await start()
    session = await in_time(tcp_pool)
    await rig.logged("connected")
    session.give(1, rows_of(5))
    await rig.logged("share done")

    rig.process.send_signal(signal.SIGUSR2)
    await rig.logged("log levels", levels={"all": "debug"})
    session.give(2, rows_of(5))
    taken = await rig.logged("share taken")
    rig.process.send_signal(signal.SIGUSR2)
    await rig.logged("log levels", levels={"all": "info"})
    session.give(3, rows_of(5))
    await rig.logged("share done", lease=3)

    assert (taken["lease"], taken["account"], taken["rig"]) == (2, "alice", "rig1")
    assert taken["session"] == (await rig.logged("share done"))["session"] != ""
    assert [e["lease"] for e in rig.log if e["event"] == "share taken"] == [2]


async def test_a_wrong_token_is_a_clear_line_in_the_log(tcp_pool, start) -> None:
    """The line names the reason and what to do, and never the token."""
    tcp_pool.deny = "bad_token"
    rig = await start()

    entry = await rig.logged("the pool denies this rig")

    assert entry["reason"] == "bad_token"
    assert "check the token file" in entry["text"]
    assert "secret" not in json.dumps(rig.log)


async def test_a_token_that_others_can_read_is_warned_of(tcp_pool, start, token: Path) -> None:
    """A warning with the remedy; the rig still starts."""
    await trio.Path(token).chmod(0o644)
    rig = await start()

    entry = await rig.logged("others may read the token")

    assert entry["remedy"] == f"chmod 600 {token}"
    await in_time(tcp_pool)


async def test_metrics_are_answered_on_the_loopback(tcp_pool, start) -> None:
    """Prometheus reads the rig's counters while it works."""
    rig = await start("--metrics-port", "0")
    url = (await rig.logged("metrics"))["url"]
    session = await in_time(tcp_pool)
    session.give(1, rows_of(5))
    with trio.fail_after(60):
        await tcp_pool.until(lambda: len(tcp_pool.rows(1)) == 5)

    def read() -> str:
        with urllib.request.urlopen(url) as answer:
            return answer.read().decode()

    assert "inferpool_rig_rows_total 5.0" in await trio.to_thread.run_sync(read)


def children_of(pid: int) -> set[int]:
    """Those of every thread: the one that starts processes is not the first."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for path in lists for child in path.read_text().split()}


async def test_devices_in_processes_end_with_their_rig(tcp_pool, start) -> None:
    """Two processes compute; when the rig is killed outright neither lives on."""
    rig = await start("--devices", "cpu:2")
    session = await in_time(tcp_pool)
    rows = rows_of(5000)
    session.give(1, rows)
    with trio.fail_after(60):
        await tcp_pool.until(lambda: len(tcp_pool.rows(1)) == len(rows))
    assert tcp_pool.rows(1) == digests_of(rows)
    devices = children_of(rig.process.pid)
    assert len(devices) == 2

    rig.process.kill()
    assert await rig.exit_code() == -signal.SIGKILL

    with trio.fail_after(60):
        await tcp_pool.until(lambda: not any(_running(pid) for pid in devices))


async def test_a_signal_for_the_log_does_not_end_devices(tcp_pool, start) -> None:
    """A service manager sends it to every process of the rig."""
    rig = await start("--devices", "cpu:2")
    session = await in_time(tcp_pool)
    session.give(1, rows_of(50))
    await rig.logged("share done", lease=1)

    for pid in children_of(rig.process.pid):
        os.kill(pid, signal.SIGUSR2)
    session.give(2, rows_of(50))
    await rig.logged("share done", lease=2)

    assert not [line for line in rig.log if line["event"] == "device lost"]


def _running(pid: int) -> bool:
    """A process whose parent died is buried by somebody else, in their own time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_tls_is_verified(nursery, tmp_path: Path) -> None:
    """A pool whose certificate holds is used; one that anybody made is not."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pools = []
    for ca in (authority, stranger):
        pool = ScriptedPool(nursery)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ca.issue_cert("localhost").configure_cert(context)
        listeners = await open_listeners("localhost", 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        pool.address = PoolAddress("localhost", port, tls=True)
        nursery.start_soon(partial(trio.serve_listeners, pool.serve, listeners))
        pools.append(pool)
    good, false = pools

    for pool in pools:
        config = RigConfig(
            pools=(pool.address,),
            user="alice.rig1",
            token="secret",
            cache=tmp_path,
            ca=tmp_path / "ca.pem",
        )
        nursery.start_soon(Rig(config, random=Random(1)).run)
    session = await in_time(good)
    session.give(1, rows_of(5))
    with trio.fail_after(60):
        await good.until(lambda: len(good.rows(1)) == 5)

    assert false.authorised == []


def test_every_counter_reaches_prometheus() -> None:
    """Totals end in _total, reasons and stages are labels."""
    telemetry = Telemetry(rows=7, shares_done=2, connected=True, difficulty=9)
    telemetry.shares_lost["stale"] += 1
    telemetry.busy_seconds["compute"] += 1.5
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(telemetry))
    read = registry.get_sample_value

    assert read("inferpool_rig_rows_total") == 7
    assert read("inferpool_rig_shares_done_total") == 2
    assert read("inferpool_rig_shares_lost_total", {"reason": "stale"}) == 1
    assert read("inferpool_rig_busy_seconds_total", {"stage": "compute"}) == 1.5
    assert read("inferpool_rig_connected") == 1
    assert read("inferpool_rig_difficulty") == 9


def test_a_pool_that_invents_reasons_does_not_grow_the_counters() -> None:
    """Labels without a bound would fill the miner's memory and Prometheus."""
    telemetry = Telemetry()
    for number in range(1000):
        count_reason(telemetry.parts_refused, f"reason {number}")

    assert len(telemetry.parts_refused) <= 33
    assert telemetry.parts_refused.total() == 1000

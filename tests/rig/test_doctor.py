"""``inferpool doctor``: what it finds, what it advises, how it ends."""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio
import trustme
from click.testing import CliRunner, Result
from scripted_pool import ScriptedPool

from gpu_worker.commands.doctor import doctor
from gpu_worker.config import PoolAddress, parse_pool
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.devices.probe import Gpu, GpuProbe
from gpu_worker.doctor import machine
from gpu_worker.doctor.connection import check_pool, clocks
from gpu_worker.doctor.devices import check_device
from gpu_worker.doctor.findings import Finding
from gpu_worker.doctor.gpus import check_gpus
from gpu_worker.engine import EngineError
from gpu_worker.engine.cuda.available import NO_CUPY
from stratum.server import open_listeners

GPU = Gpu(0, "NVIDIA H200", 139 << 30, "0000:1B:00.0", "9.0")
PROBE = GpuProbe(cupy="14.0.1", driver=12080, runtime=12040, gpus=(GPU,))


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def statuses(findings: list[Finding]) -> list[str]:
    return [finding.status for finding in findings]


def examined(tmp_path: Path, *options: str) -> Result:
    arguments = ["--backend", "numpy", "--threads", "2", "--seconds", "0.01", "--json"]
    return CliRunner().invoke(doctor, [*arguments, "--cache", str(tmp_path), *options])


def test_a_machine_that_can_join_is_told_so(tmp_path: Path) -> None:
    """Every check has a line, and the processor's golden vectors and speed are among them."""
    result = examined(tmp_path)
    report = json.loads(result.stdout)
    found = {finding["check"]: finding for finding in report["findings"]}

    assert result.exit_code == 0, result.output
    assert report["ready"] is True
    for check in ("python", "blas", "numba", "memory", "canaries", "cache"):
        assert found[check]["status"] in ("ok", "warning")
    assert found["golden vectors: cpu"]["status"] == "ok"
    assert "rows/s" in found["speed: cpu"]["text"]


def test_a_machine_that_cannot_join_ends_with_one_and_the_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For people: a line for each check, the remedy below what failed, a verdict at the end."""

    def wrong(backend: str) -> None:
        raise EngineError("gelu in exact8 differs")

    monkeypatch.setattr(machine, "check_golden", wrong)
    result = CliRunner().invoke(
        doctor, ["--backend", "numpy", "--seconds", "0", "--cache", str(tmp_path)]
    )

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    at = lines.index("FAIL  golden vectors: cpu: gelu in exact8 differs")
    assert lines[at + 1].strip() == "→ do not let this machine join a pool"
    assert lines[-1].startswith("This machine cannot join a pool: 1 of")


def test_failing_canaries_are_reported_with_their_reason(monkeypatch) -> None:
    """Golden vectors are not computed on arithmetic that is known to be wrong."""

    def sick() -> None:
        raise EngineError("flush-to-zero is on")

    monkeypatch.setattr(machine, "check_canaries", sick)
    monkeypatch.setattr(machine, "check_golden", lambda backend: pytest.fail("it was computed"))

    [finding] = machine.arithmetic(processor=True)
    assert (finding.check, finding.status) == ("canaries", "failure")
    assert "flush-to-zero" in finding.text


def test_a_rig_of_gpus_alone_needs_no_golden_vectors_of_the_processor(monkeypatch) -> None:
    """It is asked for canaries only: the devices answer for themselves."""
    monkeypatch.setattr(machine, "check_golden", lambda backend: pytest.fail("it was computed"))

    assert [finding.check for finding in machine.arithmetic(processor=False)] == ["canaries"]


def test_without_numba_the_hint_is_how_to_get_it(monkeypatch) -> None:
    """It is no failure: the bits are the same."""
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    finding = machine.numba()
    assert finding.status == "warning"
    assert finding.remedy == "pip install 'inferpool[numba]'"


def test_the_blas_is_named() -> None:
    """Its version and the kernels that it chose; an unknown one is warned of."""
    openblas = {
        "user_api": "blas",
        "internal_api": "openblas",
        "version": "0.3.31",
        "architecture": "Haswell",
    }
    assert "openblas 0.3.31 Haswell" in machine.blas([{"user_api": "openmp"}, openblas]).text
    assert machine.blas([]).status == "warning"


def test_little_memory_and_disk_are_warned_of(monkeypatch, tmp_path) -> None:
    """The rig can join, and learns why large models will fail."""
    assert machine.memory(2 << 30).status == "warning"
    assert machine.memory(64 << 30).status == "ok"
    assert machine.memory(0).status == "ok"
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert machine.cache_folder(tmp_path).status == "warning"


def test_a_cache_that_cannot_be_written_is_a_failure(tmp_path) -> None:
    """The remedy names the option."""
    (tmp_path / "file").write_text("in the way")

    finding = machine.cache_folder(tmp_path / "file" / "cache")
    assert finding.status == "failure"
    assert "--cache" in finding.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_without_permission_is_a_failure(tmp_path) -> None:
    """Seen by writing, not by looking at the mode."""
    tmp_path.chmod(0o500)

    assert machine.cache_folder(tmp_path).status == "failure"


@pytest.mark.parametrize(
    ("probe", "words", "remedy"),
    [
        (GpuProbe(error=NO_CUPY), "CuPy is not installed", "--backend numpy"),
        (GpuProbe(error="cudaErrorInsufficientDriver: too old"), "too old", "reinstall CuPy"),
        (replace(PROBE, gpus=()), "CUDA finds no GPU", "CUDA_VISIBLE_DEVICES"),
        (replace(PROBE, runtime=13000), "the driver can do CUDA 12.8", "newer driver"),
        (
            replace(PROBE, gpus=(replace(GPU, capability="7.0"),)),
            "capability 7.0",
            "leave it out with --devices",
        ),
    ],
)
def test_a_gpu_that_cannot_be_used_is_a_failure_for_who_asked_for_it(
    probe: GpuProbe, words: str, remedy: str
) -> None:
    """And a warning where the processor can compute instead."""
    for required, status in ((True, "failure"), (False, "warning")):
        found = list(check_gpus(probe, "580.65", {"0000:1B:00.0": GPU.name}, required=required))
        [bad] = [finding for finding in found if finding.status != "ok"]
        assert bad.status == status
        assert words in bad.text
        assert remedy in bad.remedy


def test_gpus_that_can_be_used_are_described() -> None:
    """Driver, CUDA, name, memory, capability."""
    found = list(check_gpus(PROBE, "580.65", {"0000:1B:00.0": GPU.name}, required=True))

    assert statuses(found) == ["ok"] * 3
    assert "580.65, which knows NVIDIA H200" in found[0].text
    assert found[1].text == "CuPy 14.0.1, CUDA 12.4"
    assert found[2].text == "NVIDIA H200, 139.0 GiB, compute capability 9.0"


def test_a_machine_without_gpus_is_no_reason_to_warn() -> None:
    """Nor is one without a driver told to install CuPy."""
    assert statuses(list(check_gpus(GpuProbe(error=NO_CUPY), "", {}, required=False))) == ["ok"]


async def test_a_device_that_refuses_is_reported_with_the_reason() -> None:
    """It is started as a rig starts it, in a process of its own."""
    with trio.fail_after(30):
        [finding] = await check_device(
            DeviceSpec(0, "gpu0", "no-such-backend", isolated=True), seconds=0
        )

    assert (finding.check, finding.status) == ("device gpu0", "failure")
    assert "no-such-backend" in finding.text
    assert "--devices" in finding.remedy


@pytest.fixture
async def listening(nursery: trio.Nursery) -> Callable:
    """``await listening(pool.serve, tls)`` returns a loopback port."""

    async def listen(handler: Callable, context: ssl.SSLContext | None = None) -> int:
        listeners = await open_listeners("localhost", 0, context)
        nursery.start_soon(partial(trio.serve_listeners, handler, listeners))
        first = listeners[0]
        inner = first if context is None else first.transport_listener
        port: int = inner.socket.getsockname()[1]
        return port

    return listen


async def test_a_pool_that_answers_is_well(listening, nursery) -> None:
    """Connected, greeted, and left without a name; it never hears of an account."""
    pool = ScriptedPool(nursery)
    port = await listening(pool.serve)

    found = await check_pool(PoolAddress("localhost", port), None)

    assert statuses(found) == ["ok", "ok"]
    assert "connected in" in found[0].text
    assert "scripted speaks version 1" in found[1].text
    assert [type(message).__name__ for message in pool.sessions[0].received] == ["Configure"]


async def test_a_pools_clock_is_compared_with_ours(listening, nursery, monkeypatch) -> None:
    """The pool tells its time in the greeting."""
    pool = ScriptedPool(nursery)
    pool.greeting = {"time": 1_000_000.0}
    port = await listening(pool.serve)
    monkeypatch.setattr("time.time", lambda: 1_000_100.0)

    *_, clock = await check_pool(PoolAddress("localhost", port), None)

    assert (clock.check, clock.status) == ("clock", "warning")
    assert "100.0 s behind" in clock.text


def test_a_small_difference_of_clocks_is_no_matter() -> None:
    """Half a minute either way."""
    assert [clocks(ahead).status for ahead in (-29.0, 0.2, 29.0, 31.0)] == [
        "ok",
        "ok",
        "ok",
        "warning",
    ]


async def test_a_certificate_that_does_not_hold_says_what_to_give(listening, nursery, tmp_path):
    """With the pool's own authority in --ca it holds."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    port = await listening(ScriptedPool(nursery).serve, context)
    address = PoolAddress("localhost", port, tls=True)

    [distrusted] = await check_pool(address, None)
    assert distrusted.status == "failure"
    assert "--ca" in distrusted.remedy
    trusted = await check_pool(address, tmp_path / "ca.pem")
    assert statuses(trusted) == ["ok", "ok"]
    assert "TLS" in trusted[0].text


async def test_something_else_on_the_port_is_recognised(listening) -> None:
    """An HTTP server is not a pool, and the text says which port to use."""

    async def http(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    port = await listening(http)

    reached, answer = await check_pool(PoolAddress("localhost", port), None)
    assert (reached.status, answer.status) == ("ok", "failure")
    assert "HTTP port" in answer.remedy


async def test_a_name_or_port_that_nobody_has_is_a_failure(monkeypatch) -> None:
    """Each with its own remedy."""
    [closed] = await check_pool(parse_pool("stratum+tcp://127.0.0.1:1"), None)
    assert closed.status == "failure"
    assert "firewalls" in closed.remedy

    [unknown] = await check_pool(parse_pool("stratum+tcp://pool.invalid:3333"), None)
    assert unknown.status == "failure"
    assert "DNS" in unknown.remedy

"""Devices in processes of their own: real processes, killed, lost and refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from scripted_pool import ADDRESS, BLAKE2B_DIGEST, PoolSession, ScriptedPool, digests_of, rows_of

from gpu_worker.config import RigConfig
from gpu_worker.devices import seats
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.devices.process import DeviceProcess
from gpu_worker.rig import NoDevices, Rig
from stratum import messages as wire
from stratum.manifest import BLAKE2B

ROWS = 32
"""Rows that a device is given before its speed is known: a share of so many stays whole."""


class Gate:
    """The folder that the engines of the device processes look at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def order(self, name: str) -> None:
        (self.folder / name).touch()

    def lift(self, name: str) -> None:
        (self.folder / name).unlink()

    @property
    def waiting(self) -> set[int]:
        return {int(path.name[3:]) for path in self.folder.glob("at-*")}


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    folder = tmp_path / "gate"
    folder.mkdir()
    monkeypatch.setenv("GATE", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(seats, "_FIRST_WAIT", 0.05)
    return Gate(folder)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., RigConfig]:
    def make(devices: int = 2, **options: Any) -> RigConfig:
        specs = tuple(
            DeviceSpec(n, f"cpu{n}", "numpy", threads=1, isolated=True) for n in range(devices)
        )
        return RigConfig(
            pools=(ADDRESS,),
            user="alice.rig1",
            token="secret",
            cache=tmp_path,
            devices=specs,
            first_backoff=0.01,
            **options,
        )

    return make


@pytest.fixture
def start(nursery: trio.Nursery, pool: ScriptedPool, config: Callable[..., RigConfig]):
    """``start(devices=2)`` runs a rig whose device processes have the gated engine."""

    def start_rig(**options: Any) -> Rig:
        rig = Rig(
            config(**options),
            connector=pool.connector,
            open_device=partial(DeviceProcess, engine="gated_engine:load"),
        )
        nursery.start_soon(rig.run)
        return rig

    return start_rig


async def until(pool: ScriptedPool, condition: Callable[[], Any]) -> None:
    with trio.fail_after(30):
        await pool.until(condition)


async def connected(pool: ScriptedPool, number: int = 0) -> PoolSession:
    with trio.fail_after(30):
        return await pool.session(number)


async def stop(rig: Rig, pool: ScriptedPool) -> None:
    rig.stop()
    await until(pool, lambda: pool.sessions[-1].over)


def pids(rig: Rig) -> list[int]:
    return [seat.device.pid for seat in rig._seats if isinstance(seat.device, DeviceProcess)]


def gone(pid: int) -> bool:
    """Whether no process has this number, not even one that waits to be buried."""
    return not Path(f"/proc/{pid}").exists()


async def test_two_processes_compute_at_once_and_the_results_are_right(pool, start, gate) -> None:
    """Each holds a share at the gate; opened, both shares come back whole."""
    gate.order("hold")
    rig = start()
    session = await connected(pool)
    for lease in (1, 2):
        session.give(lease, rows_of(ROWS))
    await until(pool, lambda: len(gate.waiting) == 2)
    gate.lift("hold")
    await until(pool, lambda: all(len(pool.rows(lease)) == ROWS for lease in (1, 2)))

    assert pool.rows(1) == pool.rows(2) == digests_of(rows_of(ROWS))
    assert gate.waiting == set(pids(rig))
    assert [device.rows for device in rig.telemetry.devices] == [ROWS, ROWS]
    await until(pool, lambda: all(d.stage_seconds for d in rig.telemetry.devices))
    assert [dict(device.stage_seconds) for device in rig.telemetry.devices] == [{"gate": 0.25}] * 2
    await stop(rig, pool)


async def test_the_rows_of_one_share_are_divided_among_the_processes(pool, start, gate) -> None:
    """A single large share keeps both busy, and its parts leave in the order of its rows."""
    rig = start()
    session = await connected(pool)
    rows = rows_of(40_000)

    session.give(1, rows)
    await until(pool, lambda: len(pool.rows(1)) == len(rows))

    assert pool.rows(1) == digests_of(rows)
    assert [part.part for part in session.of(wire.Submit)] == list(
        range(len(session.of(wire.Submit)))
    )
    assert all(device.rows > 0 for device in rig.telemetry.devices)
    await until(pool, lambda: rig.shares_in_hand == 0)
    accepted = [device.parts_accepted for device in rig.telemetry.devices]
    assert sum(accepted) == rig.telemetry.parts_accepted
    assert min(accepted) > 0
    await stop(rig, pool)


async def test_the_pool_is_told_of_every_device_and_gets_credit_for_each(pool, start, gate) -> None:
    """One session; the credit is the configured one times the devices."""
    rig = start(devices=2, credit=4)
    session = await connected(pool)

    [subscribe] = session.of(wire.Subscribe)
    assert [device.index for device in subscribe.devices] == [0, 1]
    assert all(device.kind and device.memory > 0 for device in subscribe.devices)
    assert subscribe.credit == 8
    await stop(rig, pool)


async def test_a_killed_process_costs_its_share_and_no_other(pool, start, gate) -> None:
    """kill -9 in mid-share: that share is handed back, the other finishes, a new process comes."""
    gate.order("hold")
    rig = start()
    session = await connected(pool)
    for lease in (1, 2):
        session.give(lease, rows_of(ROWS))
    await until(pool, lambda: len(gate.waiting) == 2)
    victim, survivor = pids(rig)

    os.kill(victim, signal.SIGKILL)
    await until(pool, lambda: session.of(wire.Release))
    gate.lift("hold")
    await until(pool, lambda: len(pool.rows(2)) == ROWS)

    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(1, "compute_failed")]
    assert pool.rows(2) == digests_of(rows_of(ROWS))
    assert gone(victim)
    await until(pool, lambda: len(pids(rig)) == 2)
    assert pids(rig)[1] == survivor
    assert rig.telemetry.devices[0].restarts == 1
    await until(pool, lambda: all(BLAKE2B_DIGEST in seat.engines for seat in rig._seats))
    gate.order("hold")
    for lease in (3, 4):
        session.give(lease, rows_of(ROWS))
    await until(pool, lambda: len(gate.waiting) == 3)
    gate.lift("hold")
    await until(pool, lambda: all(len(pool.rows(lease)) == ROWS for lease in (3, 4)))
    assert not session.over
    assert session.of(wire.ModelFailed) == []
    await stop(rig, pool)


@pytest.mark.parametrize(
    ("order", "words"),
    [("lose", "the bus dropped the device"), ("crash", "status 7: illegal memory access")],
)
async def test_why_a_device_was_lost_is_logged(
    pool, start, gate, capsys, order: str, words: str
) -> None:
    """The engine's words, or the last that the process wrote before it died."""
    rig = start(devices=1)
    session = await connected(pool)
    gate.order(order)
    session.give(1, rows_of(4))
    await until(pool, lambda: session.of(wire.Release))

    assert session.of(wire.Release)[0].reason == "compute_failed"
    assert words in capsys.readouterr().out
    gate.lift(order)
    again = await connected(pool, 1)
    again.give(2, rows_of(4))
    await until(pool, lambda: len(pool.rows(2)) == 4)
    await stop(rig, pool)


@pytest.mark.parametrize(
    ("order", "reason"), [("memory", "out_of_memory"), ("fail", "compute_failed")]
)
async def test_an_engine_that_fails_costs_the_share_and_not_the_process(
    pool, start, gate, order: str, reason: str
) -> None:
    """The process lives on and computes the next share."""
    rig = start(devices=1)
    session = await connected(pool)
    [pid] = pids(rig)
    gate.order(order)
    session.give(1, rows_of(4))
    await until(pool, lambda: session.of(wire.Release))
    gate.lift(order)
    session.give(2, rows_of(4))
    await until(pool, lambda: len(pool.rows(2)) == 4)

    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(1, reason)]
    assert pids(rig) == [pid]
    await stop(rig, pool)


async def test_a_device_that_dies_again_and_again_is_left_out_and_the_pool_is_told(
    pool, start, gate
) -> None:
    """Five deaths: a new session lists one device less and asks for less credit."""
    gate.order("hold")
    rig = start(devices=2, credit=3)
    session = await connected(pool)
    for _ in range(seats.DEATHS_TOLERATED):
        await until(pool, lambda: rig._seats[0].device is not None)
        os.kill(pids(rig)[0], signal.SIGKILL)
        await until(pool, lambda: rig._seats[0].device is None)

    again = await connected(pool, 1)

    assert session.of(wire.Subscribe)[0].credit == 6
    [subscribe] = again.of(wire.Subscribe)
    assert [device.index for device in subscribe.devices] == [1]
    assert subscribe.credit == 3
    assert rig.telemetry.devices[0].state == "left out"
    gate.lift("hold")
    again.give(1, rows_of(4))
    await until(pool, lambda: len(pool.rows(1)) == 4)
    await stop(rig, pool)


async def test_a_rig_without_its_only_device_hands_back_and_waits(pool, start, gate) -> None:
    """No session is held while nothing can be computed; the device's successor opens one."""
    gate.order("hold")
    rig = start(devices=1)
    session = await connected(pool)
    for lease in (1, 2, 3):
        session.give(lease, rows_of(4))
    await until(pool, lambda: gate.waiting)
    os.kill(pids(rig)[0], signal.SIGKILL)
    await until(pool, lambda: session.over)

    assert {release.lease for release in session.of(wire.Release)} == {1, 2, 3}
    gate.lift("hold")
    again = await connected(pool, 1)
    again.give(4, rows_of(4))
    await until(pool, lambda: len(pool.rows(4)) == 4)
    await stop(rig, pool)


async def test_a_cancelled_share_frees_the_process_for_the_next(pool, start, gate) -> None:
    """The share that waits in the process is left out, the one in work ends after its chunk."""
    gate.order("hold")
    rig = start(devices=1)
    session = await connected(pool)
    for lease in (1, 2, 3):
        session.give(lease, rows_of(1000))
    await until(pool, lambda: gate.waiting)
    for lease in (1, 2):
        session.tell(wire.Cancel(0, lease, "superseded"))
    await until(pool, lambda: rig.telemetry.shares_lost["cancelled"] == 2)
    gate.lift("hold")
    await until(pool, lambda: len(pool.rows(3)) == 1000)

    assert {part.lease for part in session.of(wire.Submit)} == {3}
    assert session.of(wire.Release) == []
    await stop(rig, pool)


async def test_a_share_that_waits_in_the_process_is_handed_back_when_the_rig_stops(
    pool, start, gate
) -> None:
    """It was sent there ahead of time, and nobody had begun it."""
    gate.order("hold")
    rig = start(devices=1)
    session = await connected(pool)
    for lease in (1, 2):
        session.give(lease, rows_of(4))
    await until(pool, lambda: gate.waiting)
    await until(pool, lambda: all(share.rows_dealt for share in rig._upstream.book))
    rig.stop()
    await until(pool, lambda: session.of(wire.Release))
    gate.lift("hold")
    await until(pool, lambda: session.over)

    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(2, "stopping")]
    assert len(pool.rows(1)) == 4


async def test_a_stopped_rig_leaves_no_process_behind(pool, config, gate) -> None:
    """Neither running nor waiting to be buried."""
    rig = Rig(
        config(),
        connector=pool.connector,
        open_device=partial(DeviceProcess, engine="gated_engine:load"),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await connected(pool)
        started = pids(rig)
        rig.stop()

    assert len(started) == 2
    assert all(gone(pid) for pid in started)


async def test_signals_for_the_rig_do_not_end_its_devices(pool, start, gate) -> None:
    """Ctrl-C reaches every process of a terminal; the rig is the one that decides."""
    gate.order("hold")
    rig = start(devices=1)
    session = await connected(pool)
    session.give(1, rows_of(4))
    await until(pool, lambda: gate.waiting)
    [pid] = pids(rig)

    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    gate.lift("hold")
    await until(pool, lambda: len(pool.rows(1)) == 4)

    assert pids(rig) == [pid]
    await stop(rig, pool)


async def test_a_model_that_the_devices_cannot_load_is_reported(pool, start, gate) -> None:
    """The reason is the engine's own."""
    gate.order("unsupported")
    pool.announced = False
    rig = start()
    session = await connected(pool)
    session.announce(BLAKE2B, {})
    await until(pool, lambda: session.of(wire.ModelFailed))

    assert "unsupported: this architecture" in session.of(wire.ModelFailed)[0].reason
    await stop(rig, pool)


async def test_a_retired_model_is_freed_in_the_process(pool, start, gate) -> None:
    """Its engine is closed there."""
    rig = start(devices=1)
    session = await connected(pool)
    [pid] = pids(rig)

    session.tell(wire.RetireModel(0, BLAKE2B_DIGEST))

    await until(pool, lambda: (gate.folder / f"closed-{pid}").exists())
    await stop(rig, pool)


async def test_a_rig_none_of_whose_devices_can_compute_does_not_join(pool, tmp_path) -> None:
    """The device refuses at its start, with the reason; nothing is dialled."""
    specs = (DeviceSpec(0, "gpu0", "no-such-backend", isolated=True),)
    rig = Rig(
        RigConfig(pools=(ADDRESS,), user="a.b", token="secret", cache=tmp_path, devices=specs),
        connector=pool.connector,
    )
    with trio.fail_after(30), pytest.raises(NoDevices, match=r"gpu0: .*no-such-backend"):
        await rig.run()

    assert pool.dials == []


async def test_a_process_that_brings_nothing_for_too_long_is_replaced(
    nursery, pool, config, gate, capsys
) -> None:
    """A GPU that hangs says nothing by itself."""
    gate.order("hold")
    rig = Rig(
        config(devices=1),
        connector=pool.connector,
        open_device=partial(DeviceProcess, engine="gated_engine:load", patience=1.0),
    )
    nursery.start_soon(rig.run)
    session = await connected(pool)
    session.give(1, rows_of(4))
    await until(pool, lambda: session.of(wire.Release))

    assert "brought no result" in capsys.readouterr().out
    gate.lift("hold")
    again = await connected(pool, 1)
    again.give(2, rows_of(4))
    await until(pool, lambda: len(pool.rows(2)) == 4)
    await stop(rig, pool)

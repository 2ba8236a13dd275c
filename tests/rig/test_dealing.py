"""How rows are dealt to several devices, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from scripted_pool import ADDRESS, ScriptedPool, digests_of, rows_of

from gpu_worker.config import RigConfig
from gpu_worker.devices.base import Computed, Device, DeviceRefused, Rows, Run
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.engine import Chunk, DeviceLost, load_engine
from gpu_worker.rig import NoDevices, Rig
from gpu_worker.telemetry import DeviceTelemetry
from stratum import messages as wire
from stratum.manifest import BLAKE2B


class SlowDevice(Device):
    """Takes ``seconds_a_row`` for each row, one run after the other, until it is told to die."""

    def __init__(self, spec: DeviceSpec, telemetry: DeviceTelemetry, bench: Bench) -> None:
        super().__init__(spec, telemetry)
        self.depth, self.kind, self.memory = bench.depth, f"slow {spec.index}", 1 << 30
        self.bench = bench
        self.turn = trio.Lock()
        self.death = trio.Event()
        self.engines: dict[int, Any] = {}
        bench.devices[spec.index] = self

    @property
    def seconds_a_row(self) -> float:
        return self.bench.seconds_a_row[self.spec.index]

    async def serve(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        if self.spec.index in self.bench.refusing:
            raise DeviceRefused("wrong bits")
        task_status.started()
        await self.death.wait()
        raise DeviceLost("it fell off the bus")

    async def load(self, manifest: Mapping[str, Any], files: Mapping[str, Path]) -> int:
        await trio.sleep(1)
        self.engines[len(self.engines)] = load_engine(manifest, files)
        return len(self.engines) - 1

    def unload(self, engine: int) -> None:
        self.bench.unloaded.append(self.spec.index)

    def begin(self, rows: Rows, begun: Callable[[], None]) -> Run:
        self.bench.begun.append((self.spec.index, len(rows.lengths)))
        return SlowRun(self, rows, begun)


class SlowRun(Run):
    def __init__(self, device: SlowDevice, rows: Rows, begun: Callable[[], None]) -> None:
        self.device, self.rows, self.begun = device, rows, begun
        self.chunks: Any = None
        self.cancelled = False

    async def next(self) -> Computed | None:
        device = self.device
        if self.chunks is None:
            await device.turn.acquire()
            if not self.cancelled:
                self.begun()
            rows = self.rows
            self.chunks = device.engines[rows.engine].run(
                rows.operation, rows.lengths, rows.tokens, rows.rows_per_chunk
            )
        chunk = None if self.cancelled else next(self.chunks, None)
        if chunk is None:
            device.turn.release()
            return None
        seconds = len(chunk.values) * device.seconds_a_row
        with trio.move_on_after(seconds):
            await device.death.wait()
            raise DeviceLost("it fell off the bus")
        return Computed(chunk, seconds)

    def cancel(self) -> None:
        self.cancelled = True


class Bench:
    """The devices of a rig under test, by index."""

    def __init__(self, *seconds_a_row: float) -> None:
        self.seconds_a_row = seconds_a_row
        self.depth = 2
        self.devices: dict[int, SlowDevice] = {}
        self.begun: list[tuple[int, int]] = []  # (device, rows) of each run
        self.unloaded: list[int] = []
        self.refusing: set[int] = set()

    def open(self, spec: DeviceSpec, telemetry: DeviceTelemetry) -> Device:
        return SlowDevice(spec, telemetry, self)


@pytest.fixture
def start(nursery: trio.Nursery, pool: ScriptedPool, tmp_path: Path):
    """``start(bench)`` runs a rig with the bench's devices."""

    def start_rig(bench: Bench, **options: Any) -> Rig:
        devices = tuple(DeviceSpec(n, f"slow{n}", "numpy") for n in range(len(bench.seconds_a_row)))
        options = {"cache": tmp_path, "part_rows": 16, "devices": devices, **options}
        config = RigConfig(pools=(ADDRESS,), user="alice.rig1", token="secret", **options)
        rig = Rig(config, connector=pool.connector, open_device=bench.open)
        nursery.start_soon(rig.run)
        return rig

    return start_rig


async def test_one_share_is_computed_by_all_devices_as_fast_as_all_can(
    pool, start, autojump_clock
) -> None:
    """Rows go to whoever has room, so a device three times as fast does three times as many."""
    bench = Bench(0.01, 0.03)
    rig = start(bench)
    session = await pool.session()
    await trio.sleep(10)
    rows = rows_of(4000)
    began = trio.current_time()
    session.give(1, rows)
    await pool.until(lambda: len(pool.rows(1)) == len(rows))

    fast, slow = (device.rows for device in rig.telemetry.devices)
    assert 2.8 < fast / slow < 3.2
    ideal = len(rows) / (1 / 0.01 + 1 / 0.03)
    assert trio.current_time() - began < 1.05 * ideal
    assert pool.rows(1) == digests_of(rows)
    parts = session.of(wire.Submit)
    assert [part.part for part in parts] == list(range(len(parts)))
    assert [part.final for part in parts].count(True) == 1


async def test_devices_stay_busy_from_share_to_share(pool, start, autojump_clock) -> None:
    """The end of one share overlaps the beginning of the next."""
    bench = Bench(0.01, 0.01, 0.01)
    start(bench)
    session = await pool.session()
    await trio.sleep(10)
    began = trio.current_time()
    for lease in range(6):
        session.give(lease, rows_of(900))
    await pool.until(lambda: len(pool.rows(5)) == 900)

    assert trio.current_time() - began < 1.03 * 6 * 900 * 0.01 / 3


async def test_a_single_device_gets_whole_shares_and_the_next_ahead_of_time(
    pool, start, autojump_clock
) -> None:
    """Nothing to divide; and the next share lies in the device before the first ends."""
    bench = Bench(1.0)
    start(bench)
    session = await pool.session()
    for lease in (1, 2, 3):
        session.give(lease, rows_of(40))
    await trio.sleep(5)

    assert bench.begun == [(0, 40), (0, 40)]


async def test_everybody_has_rows_before_anybody_has_rows_to_spare(
    pool, start, autojump_clock
) -> None:
    """Two small shares go to two devices."""
    bench = Bench(1.0, 1.0)
    start(bench)
    session = await pool.session()
    await trio.sleep(5)
    for lease in (1, 2):
        session.give(lease, rows_of(8))
    await pool.until(lambda: len(pool.rows(2)) == 8)

    assert sorted(bench.begun) == [(0, 8), (1, 8)]


async def test_a_lost_device_hands_back_what_it_computed_and_nothing_else(
    pool, start, autojump_clock
) -> None:
    """Shares that it had rows of; the other device goes on, and the session too."""
    bench = Bench(1.0, 1.0)
    rig = start(bench)
    session = await pool.session()
    await trio.sleep(5)
    for lease in (1, 2):
        session.give(lease, rows_of(32))
    await trio.sleep(3)

    bench.devices[0].death.set()
    await pool.until(lambda: len(pool.rows(2)) == 32)

    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(1, "compute_failed")]
    assert len(pool.sessions) == 1
    assert rig.telemetry.shares_lost == {"released": 1}
    assert session.of(wire.ModelFailed) == []
    session.give(3, rows_of(64))
    await pool.until(lambda: len(pool.rows(3)) == 64)
    assert {device for device, _ in bench.begun[2:]} == {0, 1}


async def test_other_devices_stop_with_the_share_that_a_lost_one_gave_up(
    pool, start, autojump_clock
) -> None:
    """Its rows are another rig's now: to go on with them would be work without pay."""
    bench = Bench(1.0, 1.0)
    rig = start(bench)
    session = await pool.session()
    await trio.sleep(5)
    session.give(1, rows_of(5000))
    await trio.sleep(10)
    bench.devices[0].death.set()
    await pool.until(lambda: session.of(wire.Release))
    session.give(2, rows_of(8))
    released = trio.current_time()
    await pool.until(lambda: len(pool.rows(2)) == 8)

    assert trio.current_time() - released < 60
    assert len(rig._computer._assemblies) == 0


async def test_a_share_is_dropped_on_every_device(pool, start, autojump_clock) -> None:
    """A cancel frees all devices that had rows of it."""
    bench = Bench(1.0, 1.0)
    start(bench)
    session = await pool.session()
    await trio.sleep(5)
    session.give(1, rows_of(10_000))
    await trio.sleep(100)
    session.tell(wire.Cancel(0, 1, "superseded"))
    session.give(2, rows_of(16))
    cancelled = trio.current_time()
    await pool.until(lambda: len(pool.rows(2)) == 16)

    assert trio.current_time() - cancelled < 40


async def test_a_single_device_does_not_finish_a_share_that_nobody_wants(
    pool, start, autojump_clock
) -> None:
    """It stops after the part in work, though it was given the whole share."""
    bench = Bench(1.0)
    start(bench)
    session = await pool.session()
    session.give(1, rows_of(10_000))
    await trio.sleep(100)
    session.tell(wire.Cancel(0, 1, "superseded"))
    session.give(2, rows_of(16))
    cancelled = trio.current_time()
    await pool.until(lambda: len(pool.rows(2)) == 16)

    assert trio.current_time() - cancelled < 40


async def test_a_device_that_refuses_is_left_out_and_the_others_join(
    pool, start, autojump_clock
) -> None:
    """Its golden vectors were wrong: it is not offered to the pool, and not tried again."""
    bench = Bench(1.0, 1.0, 1.0)
    bench.refusing = {1}
    rig = start(bench, credit=2)
    session = await pool.session()

    [subscribe] = session.of(wire.Subscribe)
    assert [device.index for device in subscribe.devices] == [0, 2]
    assert subscribe.credit == 4
    assert rig.telemetry.devices[1].state == "left out"
    await trio.sleep(1000)
    assert 1 not in bench.devices or bench.begun == []


async def test_a_rig_whose_devices_all_refuse_gives_up(pool, tmp_path, autojump_clock) -> None:
    """It says which and why, and never dials."""
    bench = Bench(1.0)
    bench.refusing = {0}
    config = RigConfig(
        pools=(ADDRESS,),
        user="a.b",
        token="secret",
        cache=tmp_path,
        devices=(DeviceSpec(0, "slow0", "numpy"),),
    )
    with pytest.raises(NoDevices, match="slow0: wrong bits"):
        await Rig(config, connector=pool.connector, open_device=bench.open).run()

    assert pool.dials == []


async def test_a_rig_can_be_stopped_before_its_devices_are_ready(
    pool, start, autojump_clock
) -> None:
    """Compiling kernels takes minutes; nobody waits for them to leave."""

    class Never(SlowDevice):
        async def serve(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            await trio.sleep_forever()

    bench = Bench(1.0)
    config = RigConfig(
        pools=(ADDRESS,),
        user="a.b",
        token="secret",
        devices=(DeviceSpec(0, "slow0", "numpy"),),
    )
    rig = Rig(config, connector=pool.connector, open_device=lambda s, t: Never(s, t, bench))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            await trio.sleep(5)
            rig.stop()


async def test_a_device_that_hangs_at_the_start_does_not_keep_the_others_from_joining(
    pool, tmp_path, nursery, autojump_clock
) -> None:
    """The rig waits a minute for it, once."""

    class Late(SlowDevice):
        async def serve(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            if self.spec.index == 1:
                await trio.sleep(500)
            await super().serve(task_status=task_status)

    bench = Bench(1.0, 1.0)
    config = RigConfig(
        pools=(ADDRESS,),
        user="a.b",
        token="secret",
        cache=tmp_path,
        devices=(DeviceSpec(0, "slow0", "numpy"), DeviceSpec(1, "slow1", "numpy")),
    )
    rig = Rig(config, connector=pool.connector, open_device=lambda s, t: Late(s, t, bench))
    nursery.start_soon(rig.run)
    session = await pool.session()
    joined = trio.current_time()
    await session.cut()
    again = await pool.session(1)

    assert 60 <= joined < 65
    assert trio.current_time() - joined < 10
    await trio.sleep(500)
    again.give(1, rows_of(200))
    await pool.until(lambda: len(pool.rows(1)) == 200)
    assert {device for device, _ in bench.begun} == {0, 1}


class Mad(SlowDevice):
    """Its first run skips rows."""

    def begin(self, rows: Rows, begun: Callable[[], None]) -> Run:
        run = SlowRun(self, rows, begun)
        if not self.bench.begun:
            run.next = self._nonsense  # type: ignore[method-assign]
        self.bench.begun.append((self.spec.index, len(rows.lengths)))
        return run

    async def _nonsense(self) -> Computed:
        return Computed(Chunk(3, np.zeros((2, 32), np.uint8), ()), 1.0)


async def test_a_device_that_skips_rows_is_not_believed(pool, tmp_path, nursery, autojump_clock):
    """The share is handed back and the device asked again."""
    bench = Bench(0.1)
    config = RigConfig(
        pools=(ADDRESS,),
        user="a.b",
        token="secret",
        cache=tmp_path,
        devices=(DeviceSpec(0, "slow0", "numpy"),),
    )
    rig = Rig(config, connector=pool.connector, open_device=lambda s, t: Mad(s, t, bench))
    nursery.start_soon(rig.run)
    session = await pool.session()
    session.give(1, rows_of(8))
    await pool.until(lambda: session.of(wire.Release))
    session.give(2, rows_of(8))
    await pool.until(lambda: len(pool.rows(2)) == 8)

    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(1, "compute_failed")]
    assert pool.rows(2) == digests_of(rows_of(8))


async def test_models_are_loaded_again_on_a_device_that_came_back(
    pool, start, autojump_clock
) -> None:
    """And freed on all devices when they are retired."""
    bench = Bench(1.0, 1.0)
    start(bench)
    session = await pool.session()
    await trio.sleep(5)
    first = bench.devices[0]
    first.death.set()
    await trio.sleep(10)

    assert bench.devices[0] is not first
    assert len(bench.devices[0].engines) == 1
    digest = session.announce(BLAKE2B, {})
    session.tell(wire.RetireModel(0, digest))
    await trio.sleep(5)
    assert sorted(bench.unloaded) == [0, 1]

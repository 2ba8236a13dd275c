"""The table of hardware: what was cleared, how long it took, and what rigs say that it drew."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pool.core import Core
from pool.hardware import MOST_WATTS, Hardware, Meter, meter_of
from pool.store import Store
from pool.store.hardware import KINDS, OTHER, Done, add_done, ranking
from shares.blocks import Kind, Segment
from shares.board.effects import LeaseEnded, LeaseIssued, PartAccepted, ShareJudged


class Clocked:
    """A core that has a clock and nothing else."""

    def __init__(self) -> None:
        self.at = 100.0
        self.clock = SimpleNamespace(now=lambda: self.at)


@pytest.fixture
def core() -> Clocked:
    return Clocked()


@pytest.fixture
def hardware(core: Clocked) -> Hardware:
    return Hardware(cast(Core, core))


def lease(number: int, at: float, model: str = "m") -> LeaseIssued:
    segment = Segment(1, 0, 0, 10, Kind.ROW)
    return LeaseIssued(number, "alice", "rig", model, "embed", (segment,), 10, 50, 50, at, at + 60)


def part(number: int, rows: int, work: int = 5) -> PartAccepted:
    facts: dict[str, Any] = dict.fromkeys(PartAccepted.__slots__, 0)
    return PartAccepted(**facts | {"lease": number, "rows": rows, "works": ((work, rows),)})


def judged(number: int, state: str = "cleared") -> ShareJudged:
    return ShareJudged(number, state, "test", False, 0.0)


def done(hardware: Hardware) -> dict[tuple[str, str], Done]:
    return dict(hardware._done)


def test_cleared_work_is_counted_by_device_second(hardware: Hardware, core: Clocked) -> None:
    """Two devices, ten seconds from the lease to the last part, another share waiting behind."""
    meter = meter_of(("NVIDIA  H200", "NVIDIA H200 "), 100.0)
    hardware.committed([lease(1, 100.0), lease(2, 101.0)])
    for number, at, rows in ((1, 104.0, 4), (1, 110.0, 6), (2, 130.0, 10)):
        core.at = at
        hardware.submitted(meter, number, 0.0)
        hardware.committed([part(number, rows)])
    assert done(hardware) == {}, "nothing counts before its verdict"
    hardware.committed([judged(1)])
    assert done(hardware) == {("NVIDIA H200", "m"): Done(10, 50, 20.0)}
    hardware.committed([judged(2)])
    assert done(hardware) == {("NVIDIA H200", "m"): Done(20, 100, 60.0)}


def test_time_without_a_share_counts_for_nobody(hardware: Hardware, core: Clocked) -> None:
    meter = meter_of(("gpu",), 0.0)
    hardware.committed([lease(1, 100.0)])
    core.at = 104.0
    hardware.submitted(meter, 1, 1_040.0)
    hardware.committed([part(1, 10), judged(1)])
    # 104 seconds since it connected, 4 of them at work: a 26th of the energy is the share's.
    assert done(hardware)["gpu", "m"] == Done(10, 50, 4.0, 40.0, 50)


@pytest.mark.parametrize("state", ["rejected", "void"])
def test_what_was_not_cleared_is_forgotten(hardware: Hardware, core: Clocked, state: str) -> None:
    """A liar does not lead the table; what ends without a result takes no memory."""
    hardware.committed([lease(1, 100.0), lease(2, 100.0)])
    hardware.submitted(meter_of(("gpu",), 100.0), 1, 0.0)
    hardware.committed([part(1, 10), judged(1, state), LeaseEnded(2, "expired", "rig", 0.0)])
    assert done(hardware) == {}
    assert hardware._shares == {}


def test_energy_is_cut_to_what_devices_can_draw_and_never_runs_back(
    hardware: Hardware, core: Clocked
) -> None:
    meter = meter_of(("gpu",), 100.0)
    hardware.committed([lease(1, 100.0)])
    for at, joules in ((102.0, 1e12), (104.0, 5.0), (106.0, 1e12)):
        core.at = at
        hardware.submitted(meter, 1, joules)
    hardware.committed([part(1, 10), judged(1)])
    assert done(hardware)["gpu", "m"].joules == 2 * MOST_WATTS


def test_rigs_with_devices_of_several_kinds_are_left_out(hardware: Hardware, core: Clocked) -> None:
    assert meter_of(("a", "b"), 1.0) == Meter("", 2, 1.0)
    assert meter_of((), 1.0).kind == ""
    assert len(meter_of(("x" * 200,), 1.0).kind) == 64
    hardware.committed([lease(1, 100.0)])
    hardware.submitted(meter_of(("a", "b"), 100.0), 1, 10.0)
    hardware.committed([part(1, 10), judged(1)])
    assert done(hardware) == {}


def test_a_flood_of_invented_devices_is_one_line(tmp_path: Path) -> None:
    """Whoever was known before stays known."""
    store = Store.open(tmp_path, durable=False)
    add_done(store.database, {("real", "m"): Done(1, 1, 1.0)})
    add_done(store.database, {(f"fake {n}", "m"): Done(1, 1, 1.0) for n in range(2 * KINDS)})
    add_done(store.database, {("real", "m"): Done(2, 9, 1.0, 3.0, 9)})
    with store.database.read() as connection:
        found = {row["device"]: row for row in ranking(connection, {"m": "tiny"})}
    store.close()
    assert len(found) == KINDS + 1
    assert found[OTHER]["rows"] == KINDS + 1
    assert (found["real"]["model"], found["real"]["work_per_second"]) == ("tiny", 5.0)
    assert found["real"]["reported_work_per_joule"] == 3.0
    assert found["fake 1"]["reported_work_per_joule"] is None

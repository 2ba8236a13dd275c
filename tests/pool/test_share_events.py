"""What the log tells of shares: rejected and slow ones always, everything at debug."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from pool.shareevents import SLOW, ShareEvents
from shares.blocks import Kind, Segment
from shares.board.effects import LeaseEnded, LeaseIssued, PartAccepted, ShareJudged
from shares.board.snapshot import StoredLease, StoredPart
from stratum.logs import Sinks, configure

TARGET = 10.0
IDS = {"lease": 7, "job": 3, "account": "alice", "rig": "rig1", "model": "m"}


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def sinks(stream: io.StringIO) -> Sinks:
    return configure("info", stream, terminal=False)


def issued(*jobs: int, lease: int = 7) -> LeaseIssued:
    segments = tuple(Segment(job, 0, 0, 10, Kind.ROW) for job in jobs)
    return LeaseIssued(lease, "alice", "rig1", "m", "embed", segments, 10, 50, 50, 100.0, 160.0)


def part(number: int, lease: int = 7) -> PartAccepted:
    facts: dict[str, Any] = dict.fromkeys(PartAccepted.__slots__, 0)
    return PartAccepted(**facts | {"lease": lease, "part": number, "rows": 5})


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all({**line, **IDS} == line for line in found if line["lease"] == 7)
    return found


def events(stream: io.StringIO) -> list[str]:
    return [line["event"] for line in lines(stream)]


LIFE = [
    issued(3, 4, 3),
    part(0),
    part(1),
    LeaseEnded(7, "done", "none", 120.0),
    ShareJudged(7, "cleared", "matched", False, 130.0),
]


def test_at_debug_a_share_is_followed_from_its_lease_to_its_verdict(
    sinks: Sinks, stream: io.StringIO
) -> None:
    sinks.set_levels({"": "info", "pool.shares": "debug"})
    ShareEvents((), TARGET).committed(LIFE)

    found = lines(stream)
    assert events(stream) == [
        "lease issued",
        "part accepted",
        "part accepted",
        "lease ended",
        "share judged",
    ]
    assert [line["jobs"] for line in found] == [[3, 4]] * 5
    assert [line.get("part") for line in found] == [None, 0, 1, None, None]
    assert (found[3]["reason"], found[3]["seconds"]) == ("done", 20.0)
    assert (found[4]["verdict"], found[4]["reason"]) == ("cleared", "matched")


def test_ordinary_shares_are_quiet(sinks: Sinks, stream: io.StringIO) -> None:
    ShareEvents((), TARGET).committed(LIFE)

    assert events(stream) == []


def test_a_rejected_share_is_told_with_its_reason(sinks: Sinks, stream: io.StringIO) -> None:
    told = ShareEvents((), TARGET)
    told.committed([issued(3), part(0), LeaseEnded(7, "done", "none", 101.0)])
    told.committed([ShareJudged(7, "rejected", "wrong_row", True, 130.0)])

    (line,) = lines(stream)
    assert (line["event"], line["reason"], line["forfeit"]) == ("share rejected", "wrong_row", True)
    assert "jobs" not in line


def test_a_slow_share_is_told(sinks: Sinks, stream: io.StringIO) -> None:
    told = ShareEvents((), TARGET)
    for lease, seconds in ((7, SLOW * TARGET + 0.5), (8, SLOW * TARGET)):
        told.committed([issued(3, lease=lease)])
        told.committed([LeaseEnded(lease, "expired", "rig", 100.0 + seconds)])

    (line,) = lines(stream)
    assert (line["event"], line["reason"], line["fault"]) == ("share slow", "expired", "rig")
    assert (line["seconds"], line["expected"]) == (SLOW * TARGET + 0.5, TARGET)


def test_shares_of_before_a_restart_are_known(sinks: Sinks, stream: io.StringIO) -> None:
    stored = StoredLease(
        lease=7,
        account="alice",
        rig="rig1",
        model="m",
        operation="embed",
        segments=(Segment(3, 0, 0, 10, Kind.ROW),),
        work=50,
        difficulty=50,
        issued=100.0,
        deadline=160.0,
        state="done",
        verdict="accepted",
        parts=(object.__new__(StoredPart),),
        credits=(),
    )
    ShareEvents([stored], TARGET).committed([ShareJudged(7, "rejected", "offence", True, 1.0)])

    assert events(stream) == ["share rejected"]


def test_nothing_is_kept_of_shares_that_are_over(sinks: Sinks) -> None:
    """With a verdict, or none to come."""
    told = ShareEvents((), TARGET)
    told.committed(LIFE)
    told.committed([issued(3, lease=8), LeaseEnded(8, "expired", "rig", 120.0)])

    assert not told._shares

"""Hedged rows: leased a second time near a job's end, and whose result came first."""

from __future__ import annotations

from collections.abc import Sequence

from shares.blocks import Kind, Segment, pieces
from shares.board.effects import LeaseEnded, LeaseIssued, PartAccepted


class HedgeCount:
    """Follows leases with hedged rows; rows by who won."""

    def __init__(self) -> None:
        self._hedged: dict[int, Sequence[Segment]] = {}  # {lease with hedged rows: its segments}

    def issued(self, record: LeaseIssued) -> int:
        """How many rows of a lease are hedged."""
        rows = sum(one.rows for one in record.segments if one.kind is Kind.HEDGE)
        if rows:
            self._hedged[record.lease] = record.segments
        return rows

    def accepted(self, record: PartAccepted) -> tuple[int, int]:
        """(hedged rows of the part that came first, those that came second)."""
        segments = self._hedged.get(record.lease)
        if segments is None:
            return 0, 0
        stop = record.first_row + record.rows
        inside = [
            (one.job, one.block, start, end)
            for one, start, end, _ in pieces(segments, record.first_row, stop)
            if one.kind is Kind.HEDGE
        ]
        rows = sum(end - start for _, _, start, end in inside)
        won = sum(
            max(0, min(end, win.stop) - max(start, win.start))
            for job, block, start, end in inside
            for win in record.won
            if (win.job, win.block) == (job, block)
        )
        return won, rows - won

    def ended(self, record: LeaseEnded) -> None:
        """No more parts of it come."""
        self._hedged.pop(record.lease, None)

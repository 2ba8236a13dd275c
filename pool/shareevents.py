"""What became of each share, told in the log once it is durable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from shares.blocks import Segment
from shares.board.effects import LeaseEnded, LeaseIssued, PartAccepted, Record, ShareJudged
from shares.board.snapshot import StoredLease

_log = structlog.get_logger("pool.shares")

SLOW = 4.0  # times its target: a share that took longer is told of


@dataclass(slots=True)
class _Share:
    """What every line about a share says of it."""

    account: str
    rig: str
    model: str
    jobs: tuple[int, ...]  # the first is the one it was cut for
    issued: float
    parts: bool = False  # whether any was accepted

    def facts(self, lease: int) -> dict[str, Any]:
        """Its ids, as the log names them."""
        facts: dict[str, Any] = {"lease": lease, "job": self.jobs[0]}
        if len(self.jobs) > 1:
            facts["jobs"] = self.jobs
        return facts | {"account": self.account, "rig": self.rig, "model": self.model}


class ShareEvents:
    """Tells of rejected and slow shares; at debug of every lease, part and verdict.

    Called once a commit group: where debug is off, a part costs two looks into a dictionary.
    """

    def __init__(self, stored: Iterable[StoredLease], target_seconds: float) -> None:
        """``stored``: the shares of before a restart. ``target_seconds``: a share should take."""
        self._slow_seconds = SLOW * target_seconds
        self._debug = False  # asked once a group: whether every event is told
        self._shares = {  # {lease without a verdict: it}
            one.lease: _Share(
                one.account, one.rig, one.model, _jobs(one.segments), one.issued, bool(one.parts)
            )
            for one in stored
            if one.verdict != "cleared"
        }
        self._takers: dict[type[Record], Callable[[Any], None]] = {
            LeaseIssued: self._issued,
            PartAccepted: self._accepted,
            LeaseEnded: self._ended,
            ShareJudged: self._judged,
        }

    def committed(self, records: Iterable[Record]) -> None:
        """Follow shares to their verdict."""
        self._debug = _log.is_enabled_for(logging.DEBUG)
        for record in records:
            take = self._takers.get(type(record))
            if take is not None:
                take(record)

    def _issued(self, record: LeaseIssued) -> None:
        share = _Share(
            record.account, record.rig, record.model, _jobs(record.segments), record.issued
        )
        self._shares[record.lease] = share
        if self._debug:
            _log.debug(
                "lease issued", **share.facts(record.lease), rows=record.rows, work=record.work
            )

    def _accepted(self, record: PartAccepted) -> None:
        share = self._shares.get(record.lease)
        if share is None:
            return
        share.parts = True
        if self._debug:
            _log.debug(
                "part accepted", **share.facts(record.lease), part=record.part, rows=record.rows
            )

    def _ended(self, record: LeaseEnded) -> None:
        share = self._shares.get(record.lease)
        if share is None:
            return
        seconds = round(record.at - share.issued, 3)
        if seconds > self._slow_seconds:
            _log.info(
                "share slow",
                **share.facts(record.lease),
                reason=record.state,
                fault=record.fault,
                seconds=seconds,
                expected=self._slow_seconds / SLOW,
            )
        if self._debug:
            _log.debug(
                "lease ended",
                **share.facts(record.lease),
                reason=record.state,
                fault=record.fault,
                seconds=seconds,
            )
        if not share.parts:
            del self._shares[record.lease]  # it gets no verdict

    def _judged(self, record: ShareJudged) -> None:
        share = self._shares.pop(record.lease, None)
        if share is None:
            return
        if record.state == "rejected":
            _log.info(
                "share rejected",
                **share.facts(record.lease),
                reason=record.reason,
                forfeit=record.forfeit,
            )
        elif self._debug:
            _log.debug(
                "share judged",
                **share.facts(record.lease),
                verdict=record.state,
                reason=record.reason,
            )


def _jobs(segments: tuple[Segment, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(segment.job for segment in segments))

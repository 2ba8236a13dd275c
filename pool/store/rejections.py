"""What went wrong with an account's shares, whose fault it was, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from pool.store import schema
from pool.store.blockfile import BlockFile
from pool.store.commit import unpack_segments
from shares.blocks import Segment, pieces


@dataclass(frozen=True, slots=True)
class Refuted:
    """A row that the referee found wrong: ``share_row`` of the share, ``row`` of the block."""

    share_row: int
    job: int
    block: int
    row: int
    given: bytes
    expected: bytes
    offence: bool
    at: float


@dataclass(frozen=True, slots=True)
class Appeal:
    """An appeal. ``outcome``: ``None`` while it is open, ``upheld`` or ``overturned``."""

    opened: float
    outcome: str | None
    decided: float | None
    units: int
    paid: int


@dataclass(frozen=True, slots=True)
class Excuse:
    """Wrong rows that were put down to a ``kind`` of device. ``outcome``: ``None`` until the
    operator decided, then ``innocent`` or ``guilty``."""

    kind: str
    since: float
    outcome: str | None
    decided: float | None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A share that came to nothing, or of which a row was wrong.

    ``state``, ``fault``: how its lease ended; ``verdict``, ``reason``: of the share; ``lost``:
    units of its credits that were not paid or were forfeited; ``fined``: units of the rig's held
    pay that were forfeited for it.
    """

    lease: int
    account: str
    rig: str
    model: str
    operation: str
    rows: int
    issued: float
    state: str
    fault: str
    ended: float | None
    verdict: str
    reason: str | None
    judged: float | None
    lost: int
    fined: int
    refuted: tuple[Refuted, ...]
    appeal: Appeal | None
    excuse: Excuse | None


def rejections_after(
    connection: sa.Connection, account: str, after: int, limit: int
) -> tuple[list[Rejection], int | None]:
    """The account's next rejections behind lease number ``after``.

    Also the number to go on behind, ``None`` when there are no more.
    """
    lease, refuted = schema.lease.c, schema.refuted.c
    # Each by an index of its own: a miner may have millions of leases and call often.
    faulty = faulty_leases(account, after).limit(limit + 1)
    wrong = (
        select(lease.id)
        .join(schema.refuted, refuted.lease == lease.id)
        .where(lease.account == account, refuted.lease > after)
        .distinct()
        .order_by(lease.id)
        .limit(limit + 1)
    )
    numbers = sorted({*connection.scalars(faulty), *connection.scalars(wrong)})[: limit + 1]
    found = _numbered(connection, numbers[:limit])
    return found, found[-1].lease if len(numbers) > limit else None


def rejections_before(
    connection: sa.Connection, account: str, before: int, limit: int
) -> tuple[list[Rejection], int | None]:
    """The account's rejections before lease number ``before``, the newest first.

    Also the number to go on before, ``None`` when there are no more.
    """
    lease, refuted = schema.lease.c, schema.refuted.c
    faulty = (
        select(lease.id)
        .where(lease.account == account, lease.id < before, schema.faulty)
        .order_by(lease.id.desc())
        .limit(limit + 1)
    )
    wrong = (
        select(lease.id)
        .join(schema.refuted, refuted.lease == lease.id)
        .where(lease.account == account, refuted.lease < before)
        .distinct()
        .order_by(lease.id.desc())
        .limit(limit + 1)
    )
    numbers = sorted({*connection.scalars(faulty), *connection.scalars(wrong)}, reverse=True)
    found = _numbered(connection, numbers[:limit])[::-1]
    return found, found[-1].lease if len(numbers) > limit else None


def _numbered(connection: sa.Connection, numbers: list[int]) -> list[Rejection]:
    lease = schema.lease
    rows = connection.execute(select(lease).where(lease.c.id.in_(numbers)).order_by(lease.c.id))
    return [_rejection(connection, row) for row in rows.all()]


def faulty_leases(account: str, after: int) -> sa.Select[tuple[int]]:
    """Numbers of an account's leases behind ``after`` that ended by a fault or were rejected."""
    lease = schema.lease.c
    return (
        select(lease.id)
        .where(lease.account == account, lease.id > after, schema.faulty)
        .order_by(lease.id)
    )


def rejection(connection: sa.Connection, account: str, number: int) -> Rejection | None:
    """One of them; ``None`` when the lease is not the account's, or nothing was wrong with it."""
    found, _ = rejections_after(connection, account, number - 1, 1)
    return found[0] if found and found[0].lease == number else None


def _rejection(connection: sa.Connection, row: sa.Row[Any]) -> Rejection:
    credit, forfeit, appeal = schema.credit.c, schema.forfeit.c, schema.appeal
    lost = connection.scalar(
        select(func.coalesce(func.sum(credit.amount), 0)).where(
            credit.lease == row.id, credit.state.in_(("rejected", "forfeited"))
        )
    )
    fined = connection.scalar(
        select(func.coalesce(func.sum(forfeit.units), 0)).where(
            forfeit.account == row.account, forfeit.rig == row.rig, forfeit.lease == row.id
        )
    )
    opened = connection.execute(select(appeal).where(appeal.c.lease == row.id)).first()
    excuse = schema.excuse
    excused = connection.execute(select(excuse).where(excuse.c.lease == row.id)).first()
    return Rejection(
        lease=row.id,
        account=row.account,
        rig=row.rig,
        model=row.model,
        operation=row.operation,
        rows=row.rows,
        issued=row.issued,
        state=row.state,
        fault=row.fault,
        ended=row.ended,
        verdict=row.verdict,
        reason=row.reason,
        judged=row.judged,
        lost=int(lost or 0),
        fined=int(fined or 0),
        refuted=refuted_rows(connection, row.id, unpack_segments(row.segments)),
        appeal=Appeal(opened.opened, opened.outcome, opened.decided, opened.units, opened.paid)
        if opened
        else None,
        excuse=Excuse(excused.kind, excused.at, excused.outcome, excused.decided)
        if excused
        else None,
    )


def refuted_rows(
    connection: sa.Connection, lease: int, segments: tuple[Segment, ...]
) -> tuple[Refuted, ...]:
    """The rows of a share that the referee found wrong, in the share's order."""
    places = {}
    for segment, start, stop, share_row in pieces(segments, 0, sum(s.rows for s in segments)):
        places[segment.job, segment.block, start] = (stop, share_row)
    found = []
    table = schema.refuted
    for row in connection.execute(select(table).where(table.c.lease == lease)):
        share_row = next(
            first + row.row - start
            for (job, block, start), (stop, first) in places.items()
            if (job, block) == (row.job, row.block) and start <= row.row < stop
        )
        found.append(
            Refuted(
                share_row, row.job, row.block, row.row, row.given, row.expected, row.offence, row.at
            )
        )
    return tuple(sorted(found, key=lambda one: one.share_row))


def tokens_of(
    block_path: Callable[[int, int], Path], refuted: tuple[Refuted, ...]
) -> list[list[int]]:
    """Token ids of the rows.

    Raises ``FileNotFoundError`` or ``StoreError`` when their block is gone (of a direct request,
    after a while: first its file, then its name).
    """
    found = []
    for one in refuted:
        with BlockFile(block_path(one.job, one.block)) as block:
            _, tokens = block.take_rows([one.row])
            found.append(tokens.tolist())
    return found

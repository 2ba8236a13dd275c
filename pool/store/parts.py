"""Accepted parts with their draws, as their miner may see them to check the pool."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import func, select

from pool.store import schema
from pool.store.commit import unpack_segments
from pool.store.receipts import roots_of
from shares.blocks import pieces

# Clocks may be read a little before the board hears of an epoch's end.
PUBLISHED_AFTER_SECONDS = 60.0

# Epochs of shares that wait for their verdict. A share is one of these from its first part on, and
# an index holds them: anybody may ask, so the answer must not read every share there ever was.
UNDECIDED = (
    select(schema.part.c.epoch)
    .join(schema.lease, schema.lease.c.id == schema.part.c.lease)
    .where(schema.awaits_verdict)
    .distinct()
)

_Runs = list[tuple[int, int]]
_decode_rows = msgspec.msgpack.Decoder(list[int]).decode
_decode_floors = msgspec.msgpack.Decoder(list[tuple[int, int, int]]).decode
_decode_runs = msgspec.msgpack.Decoder(_Runs).decode


@dataclass(frozen=True, slots=True)
class DrawnPart:
    """A part, what it was sampled by, and (once its epoch's key is published) what was drawn.

    ``works``: runs (work of a row, rows). Rows are rows of the part, from 0; other runs are (start,
    stop). ``checks``: (row, by, outcome) of each row that was checked, the outcome ``None`` while
    it is open: the drawn ones and, when ``suspect``, others of a rig that was wrong elsewhere.
    """

    lease: int
    part: int
    rig: str
    model: str
    first_row: int
    rows: int
    at: float
    digest: bytes
    epoch: int
    why: str
    held: int
    price: int
    row_work: int
    check_rate_ppm: int
    referee_rate_ppm: int
    works: _Runs
    published: bool
    won: _Runs
    over: _Runs
    least: list[tuple[int, int, int]]
    check_rows: list[int]
    referee_rows: list[int]
    checks: list[tuple[int, str, str | None]]
    suspect: bool
    verdict: str
    reason: str | None


def last_published(connection: sa.Connection, now: float) -> int:
    """The last epoch whose key is public; all before it are, too.

    An epoch's key is published when the epoch is over and no verdict depends on it or on an
    earlier one, since earlier keys follow from later ones.
    """
    epoch = schema.epoch.c
    over = select(func.max(epoch.id)).where(epoch.closes <= now - PUBLISHED_AFTER_SECONDS)
    last: int = connection.scalar(over) or 0
    undecided: list[int] = list(connection.scalars(UNDECIDED))
    return min([last, *(number - 1 for number in undecided)])


def parts_after(
    connection: sa.Connection, account: str, after: int, roots: int, now: float
) -> tuple[list[DrawnPart], int | None]:
    """The parts of an account under its next ``roots`` roots behind ``after``.

    Also the root's number to go on behind, ``None`` when there are no more.
    """
    page, following = roots_of(connection, account, after, roots)
    published = last_published(connection, now)
    receipt, part, lease = schema.receipt.c, schema.part, schema.lease.c
    found = connection.execute(
        select(
            part, lease.rig, lease.model, lease.segments, lease.suspect, lease.verdict, lease.reason
        )
        .select_from(schema.receipt)
        .join(part, (part.c.lease == receipt.lease) & (part.c.no == receipt.part))
        .join(schema.lease, lease.id == receipt.lease)
        .where(receipt.sequence.in_(page), receipt.account == account)
        .order_by(receipt.sequence, receipt.index)
    ).all()
    return [_drawn(connection, row, row.epoch <= published) for row in found], following


def parts_of(connection: sa.Connection, number: int, now: float) -> list[DrawnPart]:
    """The parts of one share, in their order."""
    published = last_published(connection, now)
    part, lease = schema.part, schema.lease.c
    found = connection.execute(
        select(
            part, lease.rig, lease.model, lease.segments, lease.suspect, lease.verdict, lease.reason
        )
        .join(schema.lease, lease.id == part.c.lease)
        .where(part.c.lease == number)
        .order_by(part.c.no)
    ).all()
    return [_drawn(connection, row, row.epoch <= published) for row in found]


def _drawn(connection: sa.Connection, row: sa.Row[Any], published: bool) -> DrawnPart:
    won, check = schema.won.c, schema.check.c
    stop_row = row.first_row + row.rows
    wins: Iterable[Any] = connection.execute(
        select(won.start, won.stop, won.first_row)
        .where(won.lease == row.lease, won.part == row.no)
        .order_by(won.first_row)
    )
    segments = unpack_segments(row.segments)
    checks: list[tuple[int, str, str | None]] = []
    for drawn in connection.execute(
        select(check.job, check.block, check.row, check.by, check.outcome).where(
            check.lease == row.lease, check.part == row.no
        )
    ):
        for segment, start, stop, share_row in pieces(segments, row.first_row, stop_row):
            inside = start <= drawn.row < stop
            if inside and (segment.job, segment.block) == (drawn.job, drawn.block):
                place = share_row + drawn.row - start - row.first_row
                checks.append((place, drawn.by, drawn.outcome))
    return DrawnPart(
        lease=row.lease,
        part=row.no,
        rig=row.rig,
        model=row.model,
        first_row=row.first_row,
        rows=row.rows,
        at=row.at,
        digest=row.digest,
        epoch=row.epoch,
        why=row.why,
        held=row.held,
        price=row.price,
        row_work=row.row_work,
        check_rate_ppm=row.check_rate_ppm,
        referee_rate_ppm=row.referee_rate_ppm,
        works=_decode_runs(row.works),
        published=published,
        won=[(w.first_row, w.first_row + w.stop - w.start) for w in wins],
        over=_decode_runs(row.over),
        least=_decode_floors(row.least),
        check_rows=_decode_rows(row.check_rows),
        referee_rows=_decode_rows(row.referee_rows),
        checks=sorted(checks),
        suspect=row.suspect,
        verdict=row.verdict,
        reason=row.reason,
    )

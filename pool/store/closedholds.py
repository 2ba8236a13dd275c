"""The holds of closed accounts: what they cover is computed again before they are released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import insert, or_, select

from pool.store import schema
from pool.store.commit import unpack_segments
from pool.store.ledger import balances
from shares.blocks import owes, pieces
from shares.money import posting
from shares.results import DIGEST_BYTES

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A delivered row that a hold covers, and the digest of what was delivered."""

    lease: int
    model: str
    operation: str
    job: int
    block: int
    row: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class ClosedHold:
    """What a rig of an account that was closed then holds, and what is not checked yet."""

    account: str
    rig: str
    closed: float


def holds_to_check(connection: sa.Connection, hold_seconds: float, at: float) -> list[ClosedHold]:
    """Those of accounts closed ``hold_seconds`` ago.

    Not while a share of the account waits for its verdict, whose pay would come on top.
    """
    lease = schema.lease.c
    found = []
    for hold in _unchecked(connection):
        under_way = select(lease.id).where(
            lease.account == hold.account,
            or_(lease.state == "open", lease.verdict == "accepted"),
        )
        if hold.closed <= at - hold_seconds and connection.scalar(under_way.limit(1)) is None:
            found.append(hold)
    return found


def jobs_to_keep(connection: sa.Connection) -> sa.Select[tuple[int]]:
    """Jobs of which a hold that is to be checked may cover rows, of its account's last day.

    It is for direct requests: the blocks of older ones were removed long before the closing.
    """
    account, lease, won = schema.account.c, schema.lease.c, schema.won.c
    rigs = [(hold.account, hold.rig) for hold in _unchecked(connection)]
    return (
        select(won.job)
        .join(schema.lease, lease.id == won.lease)
        .join(schema.account, account.name == lease.account)
        .where(sa.tuple_(lease.account, lease.rig).in_(rigs), lease.issued > account.closed - _DAY)
    )


def _unchecked(connection: sa.Connection) -> list[ClosedHold]:
    account, trust, checked = schema.account.c, schema.trust.c, schema.hold_check.c
    rows = connection.execute(
        select(trust.account, trust.rig, account.closed)
        .join(schema.account, account.name == trust.account)
        .join(
            schema.hold_check,
            (checked.account == trust.account) & (checked.rig == trust.rig),
            isouter=True,
        )
        .where(account.closed.is_not(None), checked.at.is_(None))
        .order_by(trust.account, trust.rig)
    ).all()
    held = balances(connection, posting.held("")) if rows else {}
    return [
        ClosedHold(row.account, row.rig, row.closed)
        for row in rows
        if held.get(posting.held(f"{row.account}.{row.rig}"), 0) > 0
    ]


def rows_of_hold(
    connection: sa.Connection, has_block: Callable[[int, int], bool], account: str, rig: str
) -> tuple[list[HoldRow], bool]:
    """The rows whose pay makes up what a rig holds: its latest cleared ones.

    Not those that were found wrong before, for which it has answered, nor those whose block is
    gone (direct requests); also whether there are any such.
    """
    credit = schema.credit.c
    left = balances(connection, posting.held(f"{account}.")).get(
        posting.held(f"{account}.{rig}"), 0
    )
    parts: dict[tuple[int, int], None] = {}
    for row in connection.execute(
        select(credit.lease, credit.part, credit.amount)
        .where(credit.account == account, credit.rig == rig, credit.state == "cleared")
        .order_by(credit.judged.desc(), credit.id.desc())
    ):
        if left <= 0:
            break
        left -= row.amount
        parts[row.lease, row.part] = None
    known: dict[tuple[int, int], bool] = {}  # {(job, block): whether its rows are there}
    found = []
    for place in parts:
        for one in _rows_of_part(connection, *place):
            where = (one.job, one.block)
            if where not in known:
                known[where] = has_block(*where)
            if known[where]:
                found.append(one)
    return found, not all(known.values())


def _rows_of_part(connection: sa.Connection, lease: int, number: int) -> list[HoldRow]:
    part, share = schema.part.c, schema.lease.c
    row: sa.Row[Any] = connection.execute(
        select(part.first_row, part.rows, part.digests, share.model, share.operation)
        .add_columns(share.segments)
        .join(schema.lease, share.id == part.lease)
        .where(part.lease == lease, part.no == number)
    ).one()
    refuted = schema.refuted.c
    answered = {
        tuple(place)
        for place in connection.execute(
            select(refuted.job, refuted.block, refuted.row).where(refuted.lease == lease)
        )
    }
    found = []
    last = row.first_row + row.rows
    for segment, start, stop, share_row in pieces(
        unpack_segments(row.segments), row.first_row, last
    ):
        if not owes(segment):
            continue  # a check was paid for what it was compared with
        for position in range(start, stop):
            if (segment.job, segment.block, position) in answered:
                continue
            offset = DIGEST_BYTES * (share_row + position - start - row.first_row)
            digest = row.digests[offset : offset + DIGEST_BYTES]
            found.append(
                HoldRow(
                    lease, row.model, row.operation, segment.job, segment.block, position, digest
                )
            )
    return found


def mark_clean(connection: sa.Connection, account: str, rig: str, rows: int, at: float) -> None:
    """All that a hold covers was right: it may be released."""
    connection.execute(insert(schema.hold_check).values(account=account, rig=rig, rows=rows, at=at))

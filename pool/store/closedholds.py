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


def holds_to_check(
    connection: sa.Connection, hold_seconds: float, at: float
) -> list[tuple[str, str]]:
    """(account, rig) of accounts closed ``hold_seconds`` ago whose hold is still to be checked.

    Not while a share of the account waits for its verdict, whose pay would come on top.
    """
    account, trust, checked = schema.account.c, schema.trust.c, schema.hold_check.c
    lease = schema.lease.c
    under_way = (
        select(lease.id)
        .where(lease.account == trust.account)
        .where(or_(lease.state == "open", lease.verdict == "accepted"))
        .exists()
    )
    held = balances(connection, posting.held(""))
    rows = connection.execute(
        select(trust.account, trust.rig)
        .join(schema.account, account.name == trust.account)
        .join(
            schema.hold_check,
            (checked.account == trust.account) & (checked.rig == trust.rig),
            isouter=True,
        )
        .where(account.closed <= at - hold_seconds, checked.at.is_(None), ~under_way)
        .order_by(trust.account, trust.rig)
    )
    return [
        (row.account, row.rig)
        for row in rows
        if held.get(posting.held(f"{row.account}.{row.rig}"), 0) > 0
    ]


def rows_of_hold(
    connection: sa.Connection, has_block: Callable[[int, int], bool], account: str, rig: str
) -> list[HoldRow]:
    """The rows whose pay makes up what a rig holds: its latest cleared ones.

    Not those that were found wrong before, for which it has answered, nor those whose block is
    gone (direct requests).
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
    return found


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

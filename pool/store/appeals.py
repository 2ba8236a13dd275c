"""Appeals against the referee's word: opened once a share, decided by running it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import func, insert, select, update

from pool.store import schema
from pool.store.commit import unpack_segments
from pool.store.rejections import Refuted, refuted_rows

APPEALS_A_DAY = 5  # an account's; each costs the referee its rows once more
_DAY = 86_400.0
ROWS_GONE = (
    "the rows of this share are gone: those of direct requests are kept for some minutes only"
)


class AppealError(ValueError):
    """The appeal is not taken; ``code`` is stable, the text says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class OpenAppeal:
    """An appeal to be decided: the rows that were found wrong, and what followed."""

    lease: int
    account: str
    rig: str
    model: str
    operation: str
    refuted: tuple[Refuted, ...]
    units: int  # what the rig gets back if it was right

    @property
    def offence(self) -> bool:
        """Whether it was more than a first isolated row."""
        return any(row.offence for row in self.refuted)


def open_appeal(
    connection: sa.Connection,
    has_block: Callable[[int, int], bool],
    account: str,
    lease: int,
    at: float,
) -> None:
    """Take an appeal. Raises ``AppealError``, and ``LookupError`` for no share of the account's."""
    appeal, share = schema.appeal, schema.lease
    found = connection.execute(
        select(share.c.rig, share.c.segments).where(share.c.id == lease, share.c.account == account)
    ).first()
    if found is None:
        raise LookupError(lease)
    refuted = refuted_rows(connection, lease, unpack_segments(found.segments))
    if not refuted:
        raise AppealError(
            "nothing_refuted", "no row of this share was found wrong: there is nothing to appeal"
        )
    if not all(has_block(row.job, row.block) for row in refuted):
        raise AppealError("rows_gone", ROWS_GONE)
    if connection.scalar(select(appeal.c.lease).where(appeal.c.lease == lease)) is not None:
        raise AppealError("appealed_before", "this share was appealed before: see its rejection")
    recent = connection.scalar(
        select(func.count())
        .select_from(appeal)
        .where(appeal.c.account == account, appeal.c.opened > at - _DAY)
    )
    if (recent or 0) >= APPEALS_A_DAY:
        raise AppealError(
            "too_many_appeals", f"an account has {APPEALS_A_DAY} appeals a day: try again tomorrow"
        )
    connection.execute(
        insert(appeal).values(lease=lease, account=account, rig=found.rig, opened=at)
    )


def open_appeals(connection: sa.Connection) -> list[OpenAppeal]:
    """Those that wait, oldest first."""
    appeal, share = schema.appeal.c, schema.lease.c
    rows = connection.execute(
        select(schema.appeal, share.model, share.operation, share.segments)
        .join(schema.lease, share.id == appeal.lease)
        .where(appeal.outcome.is_(None))
        .order_by(appeal.opened)
    ).all()
    found = []
    for row in rows:
        refuted = refuted_rows(connection, row.lease, unpack_segments(row.segments))
        units = _lost(connection, row.account, row.rig, row.lease, refuted)
        found.append(
            OpenAppeal(row.lease, row.account, row.rig, row.model, row.operation, refuted, units)
        )
    return found


def end_appeal(connection: sa.Connection, lease: int, outcome: str, at: float) -> None:
    """``upheld``: the referee stands by its word; ``gone``: the rows were removed before it ran."""
    appeal = schema.appeal
    connection.execute(
        update(appeal)
        .where(appeal.c.lease == lease, appeal.c.outcome.is_(None))
        .values(outcome=outcome, decided=at)
    )


def _lost(
    connection: sa.Connection, account: str, rig: str, lease: int, refuted: tuple[Refuted, ...]
) -> int:
    """Units that the rig lost with the share: its pay, held pay, and shares that fell with it."""
    credit, share, forfeit = schema.credit.c, schema.lease.c, schema.forfeit.c
    wrong = schema.refuted.c
    moments = [row.at for row in refuted]
    # Shares that fell with it, paid back once: with the first of those that proved the offence.
    first = connection.scalar(
        select(func.min(wrong.lease))
        .join(schema.lease, share.id == wrong.lease)
        .where(share.account == account, share.rig == rig, wrong.at.in_(moments))
    )
    fell: sa.ColumnElement[bool] = sa.false()
    if first == lease:
        proved = select(wrong.lease).where(wrong.lease == share.id).exists()
        fell = (share.reason == "offence") & share.judged.in_(moments) & ~proved
    credits_lost = connection.scalar(
        select(func.coalesce(func.sum(credit.amount), 0))
        .join(schema.lease, share.id == credit.lease)
        .where(
            share.account == account,
            share.rig == rig,
            (share.id == lease) | fell,
            credit.state.in_(("rejected", "forfeited")),
        )
    )
    held_lost = connection.scalar(
        select(func.coalesce(func.sum(forfeit.units), 0)).where(
            forfeit.account == account, forfeit.rig == rig, forfeit.lease == lease
        )
    )
    return int(credits_lost or 0) + int(held_lost or 0)

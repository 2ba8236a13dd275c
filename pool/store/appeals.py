"""Appeals against the referee's word: opened once a share, decided by running it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import func, insert, select, update

from pool.store import schema
from pool.store.commit import unpack_segments
from pool.store.rejections import Refuted, refuted_rows
from shares.trust.record import Finding, Record, record_of

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
    """An appeal to be decided: the rows that were found wrong."""

    lease: int
    account: str
    rig: str
    model: str
    operation: str
    refuted: tuple[Refuted, ...]


@dataclass(frozen=True, slots=True)
class Relief:
    """What an overturned finding changes: the records of the account's rigs, {rig: record}, and
    what the rig gets back."""

    before: dict[str, Record]
    after: dict[str, Record]
    units: int


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
        found.append(OpenAppeal(row.lease, row.account, row.rig, row.model, row.operation, refuted))
    return found


def end_appeal(connection: sa.Connection, lease: int, outcome: str, at: float) -> None:
    """``upheld``: the referee stands by its word; ``gone``: the rows were removed before it ran."""
    appeal = schema.appeal
    connection.execute(
        update(appeal)
        .where(appeal.c.lease == lease, appeal.c.outcome.is_(None))
        .values(outcome=outcome, decided=at)
    )


def relief(
    connection: sa.Connection, account: str, rig: str, lease: int, ban_seconds: float
) -> Relief:
    """What follows when nothing of a share was wrong.

    An offence that remains without it keeps its forfeits. One that does not gives back the held
    pay that it cost, and the pay of the shares that fell with it or stood in it, unless a row of
    them is wrong still.
    """
    findings = findings_of(connection, account)
    rest = [finding for finding in findings if finding.lease != lease]
    before, after = record_of(findings, ban_seconds), record_of(rest, ban_seconds)
    kept = set(after[rig].moments) if rig in after else set()
    lifted = set(before[rig].moments) - kept
    own = {finding.at for finding in findings if finding.lease == lease}
    share, forfeit = schema.lease.c, schema.forfeit.c
    wrong = {finding.lease for finding in rest}
    fell = connection.scalars(
        select(share.id).where(
            share.account == account,
            share.rig == rig,
            share.verdict == "rejected",
            share.judged.in_(lifted),
        )
    )
    shares = {number for number in fell if number not in wrong}
    if not own & kept:
        shares.add(lease)
    held = connection.scalar(
        select(func.coalesce(func.sum(forfeit.units), 0)).where(
            forfeit.account == account,
            forfeit.rig == rig,
            sa.or_(
                (forfeit.reason == "wrong_row") & (forfeit.lease == lease),
                (forfeit.reason == "offence") & forfeit.at.in_(lifted),
            ),
        )
    )
    return Relief(
        before,
        {name: after.get(name, Record()) for name in before},
        _pay_lost(connection, shares) + int(held or 0),
    )


def findings_of(connection: sa.Connection, account: str) -> list[Finding]:
    """What was found of an account and counts: not what was put down to a kind of device, unless
    the operator decided otherwise, and not what an appeal overturned."""
    wrong, share, excuse, appeal = (
        schema.refuted.c,
        schema.lease.c,
        schema.excuse.c,
        schema.appeal.c,
    )
    at = func.coalesce(excuse.decided, wrong.at)
    rows = connection.execute(
        select(wrong.lease, share.rig, at.label("at"), func.count().label("rows"))
        .select_from(schema.refuted)
        .join(schema.lease, share.id == wrong.lease)
        .outerjoin(schema.excuse, excuse.lease == wrong.lease)
        .outerjoin(schema.appeal, appeal.lease == wrong.lease)
        .where(
            share.account == account,
            excuse.lease.is_(None) | (excuse.outcome == "guilty"),
            appeal.outcome.is_(None) | (appeal.outcome != "overturned"),
        )
        .group_by(wrong.lease, share.rig, at)
    )
    return [Finding(row.at, row.lease, row.rig, row.rows) for row in rows]


def _pay_lost(connection: sa.Connection, shares: set[int]) -> int:
    credit = schema.credit.c
    lost = connection.scalar(
        select(func.coalesce(func.sum(credit.amount), 0)).where(
            credit.lease.in_(shares), credit.state.in_(("rejected", "forfeited"))
        )
    )
    return int(lost or 0)

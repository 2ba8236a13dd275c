"""What the pool's own books say of one batch: read from the store, after the work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import distinct, func, select

from pool.store import schema
from pool.store.escrow import Statement, statements
from pool.store.ledger import LedgerError
from pool.store.ledgeraudit import check_ledger
from pool.store.moneytable import MoneyTable, money_table

# Outcomes of a check, by what they say of the checked share's row.
_RIGHT = ("matched", "accuser_wrong")
_WRONG = ("guilty", "both_wrong")


@dataclass(frozen=True, slots=True)
class Conviction:
    """How one rig was found out: by its first share with a wrong row."""

    share: int  # the lease's number
    reason: str
    rows: int  # of that share
    wrong: int  # rows of it that were found wrong
    found_by: tuple[str, ...]  # rigs, or the referee
    false_checks: int  # rows of others that it computed again, wrongly
    shares_delivered: int  # by then, at least in part
    seconds: float  # from its first share's issue to the verdict
    banned_until: float


@dataclass(frozen=True, slots=True)
class Record:
    """One account's rigs: shares by verdict, and rows of theirs that were computed again."""

    shares: int = 0  # delivered at least in part
    cleared: int = 0
    rejected: int = 0
    void: int = 0
    rows_checked: int = 0
    rows_wrong: int = 0
    offences: int = 0
    keeps: int = 0  # units pending, held and available
    forfeited: int = 0  # units that were pending or held


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that the report says of a batch comes from here."""

    settled: bool
    work: int  # of the whole batch
    money: MoneyTable
    records: dict[str, Record]  # {account: …}
    conviction: Conviction | None  # of the account that was asked for
    ledger_error: str | None


def read_books(connection: sa.Connection, batch: str, suspect: str) -> Books:
    """The books of ``batch``, and what they have against the account ``suspect``."""
    job = connection.execute(
        select(schema.job.c.id, schema.job.c.settled, schema.job.c.work).where(
            schema.job.c.batch == batch
        )
    ).one()
    miners = [one for one in statements(connection) if one.role == "miner"]
    return Books(
        settled=job.settled is not None,
        work=job.work,
        money=money_table(connection, job.id),
        records={one.name: _record(connection, one) for one in miners},
        conviction=_conviction(connection, suspect),
        ledger_error=_ledger_error(connection),
    )


def _ledger_error(connection: sa.Connection) -> str | None:
    try:
        check_ledger(connection)
    except LedgerError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the pool holds against a rig, connected or not."""

    rejected: int  # shares
    offences: int


def read_standings(connection: sa.Connection) -> dict[str, Standing]:
    """{ACCOUNT.RIG: its standing}."""
    trust = schema.trust
    return {
        f"{row.account}.{row.rig}": Standing(row.rejected_shares, row.offences)
        for row in connection.execute(select(trust))
    }


def _record(connection: sa.Connection, miner: Statement) -> Record:
    account = miner.name
    lease, part, check, trust = schema.lease, schema.part, schema.check, schema.trust
    delivered = select(part.c.lease).where(part.c.lease == lease.c.id).exists()
    verdicts = {
        row.verdict: int(row.shares)
        for row in connection.execute(
            select(lease.c.verdict, func.count().label("shares"))
            .where(lease.c.account == account, delivered)
            .group_by(lease.c.verdict)
        )
    }
    # A row may be drawn twice, for another rig and for the referee: it counts once.
    one_row = (check.c.lease, check.c.job, check.c.block, check.c.row)
    checked = (
        select(*one_row)
        .distinct()
        .join(lease, lease.c.id == check.c.lease)
        .where(lease.c.account == account)
    )
    offences = connection.scalar(
        select(func.coalesce(func.sum(trust.c.offences), 0)).where(trust.c.account == account)
    )
    return Record(
        shares=sum(verdicts.values()),
        cleared=verdicts.get("cleared", 0),
        rejected=verdicts.get("rejected", 0),
        void=verdicts.get("void", 0),
        rows_checked=_count(connection, checked.where(check.c.outcome.in_(_RIGHT + _WRONG))),
        rows_wrong=_count(connection, checked.where(check.c.outcome.in_(_WRONG))),
        offences=int(offences or 0),
        keeps=miner.pending + miner.held + miner.available,
        forfeited=_forfeited(connection, account),
    )


def _count(connection: sa.Connection, rows: sa.Select[Any]) -> int:
    return connection.scalar(select(func.count()).select_from(rows.subquery())) or 0


def _conviction(connection: sa.Connection, account: str) -> Conviction | None:
    lease, part, check = schema.lease, schema.part, schema.check
    share = connection.execute(
        select(lease)
        .where(lease.c.account == account, lease.c.verdict == "rejected")
        # Its other shares fall in the same moment, for the offence: they had no wrong row.
        .order_by(lease.c.judged, lease.c.reason == "offence", lease.c.id)
        .limit(1)
    ).first()
    if share is None:
        return None
    wrong = (
        select(check.c.job, check.c.block, check.c.row)
        .distinct()
        .where(check.c.lease == share.id, check.c.outcome.in_(_WRONG))
    )
    found_by = connection.scalars(
        select(check.c.checker)
        .distinct()
        .where(check.c.lease == share.id, check.c.outcome.in_(_WRONG))
        .order_by(check.c.checker)
    ).all()
    false_checks = connection.scalar(
        select(func.count()).where(
            check.c.checker.startswith(f"{account}.", autoescape=True),
            check.c.outcome.in_(("accuser_wrong", "both_wrong")),
        )
    )
    delivered = connection.scalar(
        select(func.count(distinct(part.c.lease)))
        .select_from(part.join(lease, lease.c.id == part.c.lease))
        .where(lease.c.account == account, part.c.at <= share.judged)
    )
    first = connection.scalar(select(func.min(lease.c.issued)).where(lease.c.account == account))
    banned = connection.scalar(
        select(func.max(schema.trust.c.banned_until)).where(schema.trust.c.account == account)
    )
    return Conviction(
        share=share.id,
        reason=share.reason or "",
        rows=share.rows,
        wrong=_count(connection, wrong),
        found_by=tuple(checker or "" for checker in found_by),
        false_checks=int(false_checks or 0),
        shares_delivered=int(delivered or 0),
        seconds=share.judged - (first or share.judged),
        banned_until=float(banned or 0.0),
    )


def _forfeited(connection: sa.Connection, account: str) -> int:
    credit, forfeit = schema.credit, schema.forfeit
    pending = connection.scalar(
        select(func.coalesce(func.sum(credit.c.amount), 0)).where(
            credit.c.account == account, credit.c.state == "forfeited"
        )
    )
    held = connection.scalar(
        select(func.coalesce(func.sum(forfeit.c.units), 0)).where(forfeit.c.account == account)
    )
    return int(pending or 0) + int(held or 0)

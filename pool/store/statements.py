"""Statements: what an account earned or spent, day by day and job by job, as it stands now.

Days are UTC. A statement is made of the same credits that ``/api/v1/accounts/me/credits`` lists,
and of the ledger's entries about the account; it is read in one transaction, so that its parts
agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import case, func, or_, select

from pool.store import schema
from pool.store.ledger import balances
from shares.money import posting
from shares.money.apportion import due

DAY = 86_400
MOST_DAYS = 366
_SLACK = 3_600.0  # by which a clock that was set back may have mixed credits up


@dataclass(frozen=True, slots=True)
class Span:
    """Days from ``first`` to before ``end``, in seconds since the epoch at midnight UTC."""

    first: float
    end: float


def span_of(first: date | None, end: date | None, now: float) -> Span:
    """The days of a statement; by default the 30 up to today. Raises ``ValueError``."""
    today = datetime.fromtimestamp(now, UTC).date()
    end = end or max(today, first or today) + timedelta(days=1)
    first = first or end - timedelta(days=30)
    if first >= end:
        raise ValueError(f"from {first} is not before to {end}")
    if (end - first).days > MOST_DAYS:
        raise ValueError(f"from {first} to {end} is more than {MOST_DAYS} days: ask for fewer")
    return Span(_midnight(first), _midnight(end))


@dataclass(slots=True)
class Line:
    """One day's credits of one job. Work and units; ``fee`` is what the customer paid on top."""

    day: str
    job: int
    batch: str  # empty: a direct request
    model: str
    price: int  # units a unit of work
    shares: int = 0
    shares_cleared: int = 0
    shares_rejected: int = 0
    shares_void: int = 0
    shares_open: int = 0
    work: int = 0  # of rows
    work_cleared: int = 0
    check_work: int = 0  # of checks and of second leases that lost in time
    check_work_cleared: int = 0
    fee: int = 0
    pending: int = 0
    cleared: int = 0
    rejected: int = 0
    forfeited: int = 0


@dataclass(frozen=True, slots=True)
class Movement:
    """One day's ledger entries of one kind: units that came (above zero) or went."""

    day: str
    kind: str
    units: int


@dataclass(slots=True)
class MinerStatement:
    """What a miner earned. ``now``: where its units are at this moment."""

    account: str
    lines: list[Line] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    now: dict[str, int] = field(default_factory=dict)

    def totals(self) -> dict[str, int]:
        """The sums of the lines' numbers; units by state equal those of ``inferpool verify``."""
        names = [
            name for name, value in asdict(_EMPTY).items() if type(value) is int and name != "job"
        ]
        names.remove("price")
        return {name: sum(getattr(line, name) for line in self.lines) for name in names}


@dataclass(frozen=True, slots=True)
class CustomerLine:
    """One entry of a customer's balance."""

    at: float
    kind: str  # deposit | reserved | completed
    job: int | None
    batch: str
    work: int  # of the job
    work_done: int  # verified and paid so far
    units: int
    balance: int  # after it


_EMPTY = Line("", 0, "", "", 0)

# What entries about a miner's units mean, by kind: those that are no credits of a job.
_MOVEMENTS = {
    "released": "available:",
    "held_forfeited": "held:",
    "made_good": "available:",
    "pooled": "held:",
    "pot_divided": "available:",
    "advanced": "available:",
    "repaid": "held:",
    "payout_finalised": "paid:",
    "payout_returned": "available:",
}


def miner_statement(connection: sa.Connection, account: str, span: Span) -> MinerStatement:
    """All of a miner's days in ``span``."""
    found = MinerStatement(account)
    found.lines = _lines(connection, account, span)
    found.movements = _movements(connection, account, span)
    found.now = _now(connection, account)
    return found


def _lines(connection: sa.Connection, account: str, span: Span) -> list[Line]:
    credit, lease, job = schema.credit, schema.lease, schema.job
    day = _day_of(credit.c.at)
    mine = (
        (credit.c.account == account)
        & credit.c.id.between(
            _first_credit(connection, account, span.first),
            _last_credit(connection, account, span.end),
        )
        & (credit.c.at >= span.first)
        & (credit.c.at < span.end)
    )
    is_row, cleared = credit.c.kind == "row", credit.c.state == "cleared"

    def total(value: Any, *when: Any) -> Any:
        return func.coalesce(func.sum(case((sa.and_(*when), value), else_=0)), 0)

    columns = [
        total(credit.c.work, is_row).label("work"),
        total(credit.c.work, is_row, cleared).label("work_cleared"),
        total(credit.c.work, ~is_row).label("check_work"),
        total(credit.c.work, ~is_row, cleared).label("check_work_cleared"),
        *(
            total(credit.c.amount, credit.c.state == state).label(state)
            for state in ("pending", "cleared", "rejected", "forfeited")
        ),
    ]
    lines = {
        (row.day, row.job): Line(
            day=_day(row.day),
            job=row.job,
            batch=row.batch or "",
            model=row.model_name or "",
            price=row.price,
            fee=due(row.fee_reserved, min(row.work_cleared, row.of), row.of),
            **{column.name: int(getattr(row, column.name)) for column in columns},
        )
        for row in connection.execute(
            select(
                day,
                credit.c.job,
                job.c.batch,
                job.c.model_name,
                job.c.price,
                job.c.fee_reserved,
                job.c.work.label("of"),
                *columns,
            )
            .join(job, job.c.id == credit.c.job)
            .where(mine)
            .group_by(day, credit.c.job)
            .order_by(day, credit.c.job)
        )
    }
    of_shares = select(day, credit.c.job, credit.c.lease).where(mine).distinct().subquery()
    for row in connection.execute(
        select(of_shares.c.day, of_shares.c.job, lease.c.verdict, func.count().label("shares"))
        .join(lease, lease.c.id == of_shares.c.lease)
        .group_by(of_shares.c.day, of_shares.c.job, lease.c.verdict)
    ):
        line = lines[row.day, row.job]
        line.shares += row.shares
        name = "open" if row.verdict in ("open", "accepted") else row.verdict
        setattr(line, f"shares_{name}", getattr(line, f"shares_{name}") + row.shares)
    return list(lines.values())


def _first_credit(connection: sa.Connection, account: str, at: float) -> int:
    """A credit of the account's of before ``at``, found by halving: ids grow with the time."""
    credit = schema.credit.c
    return _last_before(connection, credit.id, credit.at, at - _SLACK, credit.account == account)


def _last_credit(connection: sa.Connection, account: str, at: float) -> int:
    """The last credit of the account's that may be of before ``at``."""
    credit = schema.credit.c
    return _last_before(connection, credit.id, credit.at, at + _SLACK, credit.account == account)


def _entries_in(connection: sa.Connection, span: Span) -> sa.ColumnElement[bool]:
    """The ledger's entries of these days: their numbers grow with the time, too."""
    entry = schema.entry.c
    first = _last_before(connection, entry.seq, entry.at, span.first - _SLACK, sa.true())
    last = _last_before(connection, entry.seq, entry.at, span.end + _SLACK, sa.true())
    return sa.and_(entry.seq.between(first, last), entry.at >= span.first, entry.at < span.end)


def _last_before(
    connection: sa.Connection,
    number: sa.ColumnElement[int],
    time: sa.ColumnElement[float],
    at: float,
    mine: sa.ColumnElement[bool],
) -> int:
    """The last number before ``at``; the first there is if all are later, 0 if there is none."""
    # Each end by itself: asked for both at once, SQLite reads all that is between.
    lowest = connection.scalar(select(func.min(number)).where(mine))
    highest = connection.scalar(select(func.max(number)).where(mine))
    if lowest is None or highest is None:
        return 0
    low, high = int(lowest), int(highest)
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(
            select(number.label("number"), time.label("at"))
            .where(mine, number >= middle)
            .order_by(number)
            .limit(1)
        ).one()
        if row.at < at:
            low = row.number
        else:
            high = middle - 1
    return low


def _movements(connection: sa.Connection, account: str, span: Span) -> list[Movement]:
    entry = schema.entry.c
    day = _day_of(entry.at)
    rows = connection.execute(
        select(day, entry.kind, func.sum(entry.amount).label("units"))
        .where(
            entry.account_code.in_(_codes(connection, account)),
            _entries_in(connection, span),
            or_(
                *(
                    (entry.kind == kind) & entry.account_code.startswith(prefix, autoescape=True)
                    for kind, prefix in _MOVEMENTS.items()
                )
            ),
        )
        .group_by(day, entry.kind)
        .order_by(day, entry.kind)
    )
    return [Movement(_day(row.day), row.kind, int(row.units)) for row in rows]


def _codes(connection: sa.Connection, account: str) -> list[str]:
    """The account codes of what was cleared: those of its rigs and its own."""
    held = balances(connection, posting.held(f"{account}."))
    return [*held, posting.available(account), posting.in_flight(account), posting.paid(account)]


def _now(connection: sa.Connection, account: str) -> dict[str, int]:
    credit = schema.credit.c
    unposted = connection.scalar(
        select(func.coalesce(func.sum(credit.amount), 0)).where(
            # As an expression: what waits is few, and has an index of its own.
            credit.account.concat("") == account,
            credit.posted.is_distinct_from(credit.state),
        )
    )
    return {
        "pending": sum(balances(connection, posting.pending(f"{account}.")).values()),
        "held": sum(balances(connection, posting.held(f"{account}.")).values()),
        **{
            name: balances(connection, code).get(code, 0)
            for name, code in (
                ("available", posting.available(account)),
                ("in_flight", posting.in_flight(account)),
                ("paid", posting.paid(account)),
            )
        },
        "not_yet_posted": int(unposted or 0),
    }


# ── customers ────────────────────────────────────────────────────────────────


def customer_lines(connection: sa.Connection, account: str, span: Span) -> Iterator[CustomerLine]:
    """The entries of a customer's balance, in their order."""
    entry, job = schema.entry.c, schema.job
    code = posting.customer(account)
    balance = connection.scalar(
        select(func.coalesce(func.sum(entry.amount), 0)).where(
            entry.account_code == code, entry.at < span.first
        )
    )
    units = int(balance or 0)
    rows = connection.execute(
        select(entry.kind, entry.ref, entry.amount, entry.at)
        .where(entry.account_code == code, entry.at >= span.first, entry.at < span.end)
        .order_by(entry.seq)
    ).all()
    jobs = {
        row.id: row
        for row in connection.execute(
            select(job.c.id, job.c.batch, job.c.work, job.c.paid_work).where(
                job.c.account == account
            )
        )
    }
    for row in rows:
        units += row.amount
        head, _, rest = row.ref.partition(":")
        number = rest.partition(":")[0]
        found = jobs.get(int(number)) if head == "job" and number.isdecimal() else None
        yield CustomerLine(
            at=row.at,
            kind=row.kind,
            job=None if found is None else found.id,
            batch="" if found is None else found.batch or "",
            work=0 if found is None else found.work,
            work_done=0 if found is None else found.paid_work,
            units=row.amount,
            balance=units,
        )


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _day_of(at: sa.ColumnElement[float]) -> sa.ColumnElement[int]:
    """Whole days since the epoch."""
    return (sa.cast(at, sa.BigInteger) // DAY).label("day")


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY, UTC).strftime("%Y-%m-%d")

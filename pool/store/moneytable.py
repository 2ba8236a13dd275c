"""Where a job's price is now: a table that adds up to the price, to the unit."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import func, or_, select

from pool.store import schema
from pool.store.escrow import job_ref
from pool.store.ledger import after_prefix

# Pay from the reserve is no part of a job's price.
_OTHER_MONEY = ".reserve"


@dataclass(slots=True)
class Earned:
    """What one account did for a job. Work and units by what became of them."""

    work: int = 0  # of rows: pending and cleared
    pay: int = 0  # for those rows
    check_work: int = 0  # of checks and hedges
    check_pay: int = 0
    rejected: int = 0  # units that went back
    forfeited: int = 0  # units of pending pay


@dataclass(slots=True)
class MoneyTable:
    """A job's price, divided. All but ``accounts`` add up to ``price`` exactly."""

    price: int
    pending: int = 0  # rigs' pay for rows, without a verdict
    held: int = 0  # rigs' pay for rows, cleared
    available: int = 0  # rigs' pay for rows, released
    checks: int = 0  # the levy: still reserved, or with those who checked
    operator: int = 0  # fee, and the referee's cost
    reserve: int = 0  # the levy's rest, and pay that was forfeited and not needed again
    refund: int = 0  # back with the customer
    escrow: int = 0  # pay and fee still reserved: 0 when the job is settled
    accounts: dict[str, Earned] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """What the parts add up to."""
        return (
            self.pending
            + self.held
            + self.available
            + self.checks
            + self.operator
            + self.reserve
            + self.refund
            + self.escrow
        )


def money_table(connection: sa.Connection, job: int) -> MoneyTable:
    """Divide a job's price as the ledger has it now.

    A rig's hold is first in, first out: what is released or forfeited is what it earned earliest.
    """
    moved = _moved(connection, job)
    table = MoneyTable(price=-sum(u for (k, c), u in moved.items() if k == "reserved" and _is(c)))
    rigs: set[str] = set()
    for (kind, code), units in moved.items():
        match code.partition(":")[0]:
            case "customer":
                table.refund += units if kind in ("completed", "refunded") else 0
            case "escrow.pay" | "escrow.fee":
                table.escrow += units
            case "escrow.check":
                table.checks += units
            case "pending" if kind.endswith(".check"):
                table.checks += units
            case "pending":
                table.pending += units
            case "held":
                rigs.add(code)
            case "operator.fee" | "operator.cost":
                table.operator += units
            case "reserve" | "forfeits":
                table.reserve += units
    for rig in sorted(rigs):
        _divide_hold(connection, job, rig, table)
    table.accounts = _earned(connection, job)
    return table


def _is(code: str) -> bool:
    return code.startswith("customer:")


def _moved(connection: sa.Connection, job: int) -> dict[tuple[str, str], int]:
    """Units that entries of the job moved, by kind and account code."""
    entry = schema.entry
    batches = f"{job_ref(job)}:"
    rows = connection.execute(
        select(entry.c.kind, entry.c.account_code, func.sum(entry.c.amount).label("units"))
        .where(
            or_(
                entry.c.ref == job_ref(job),
                (entry.c.ref >= batches) & (entry.c.ref < after_prefix(batches)),
            )
        )
        .group_by(entry.c.kind, entry.c.account_code)
    )
    return {
        (row.kind, row.account_code): int(row.units)
        for row in rows
        if not row.kind.endswith(_OTHER_MONEY)
    }


def _divide_hold(connection: sa.Connection, job: int, rig: str, table: MoneyTable) -> None:
    """Follow a rig's hold through time, and add what of it is the job's to ``table``."""
    entry = schema.entry
    line: deque[list[int]] = deque()  # [units, 1 pay or 2 check of this job, else 0]
    for row in connection.execute(
        select(entry.c.kind, entry.c.ref, entry.c.amount)
        .where(entry.c.account_code == rig)
        .order_by(entry.c.seq)
    ):
        if row.amount > 0:
            line.append([row.amount, _whose(row.kind, row.ref, job)])
            continue
        left = -row.amount
        while left:
            first = line[0]
            units = min(left, first[0])
            left -= units
            first[0] -= units
            _count(table, first[1], units, gone=row.kind)
            if not first[0]:
                line.popleft()
    for units, whose in line:
        _count(table, whose, units, gone="")


def _whose(kind: str, ref: str, job: int) -> int:
    if not ref.startswith(f"{job_ref(job)}:"):
        return 0
    return {"cleared.pay": 1, "cleared.check": 2}.get(kind, 0)


def _count(table: MoneyTable, whose: int, units: int, *, gone: str) -> None:
    if not whose:
        return
    if gone == "held_forfeited":
        table.reserve += units
    elif whose == 2:
        table.checks += units
    elif gone:  # released, to the pot, or back to the reserve that had paid it before
        table.available += units
    else:
        table.held += units


def _earned(connection: sa.Connection, job: int) -> dict[str, Earned]:
    credit = schema.credit
    accounts: dict[str, Earned] = defaultdict(Earned)
    for row in connection.execute(
        select(
            credit.c.account,
            credit.c.kind,
            credit.c.state,
            func.sum(credit.c.work).label("work"),
            func.sum(credit.c.amount).label("units"),
        )
        .where(credit.c.job == job)
        .group_by(credit.c.account, credit.c.kind, credit.c.state)
        .order_by(credit.c.account)
    ):
        earned = accounts[row.account]
        if row.state == "rejected":
            earned.rejected += int(row.units)
        elif row.state == "forfeited":
            earned.forfeited += int(row.units)
        elif row.kind == "row":
            earned.work += int(row.work)
            earned.pay += int(row.units)
        else:
            earned.check_work += int(row.work)
            earned.check_pay += int(row.units)
    return dict(accounts)

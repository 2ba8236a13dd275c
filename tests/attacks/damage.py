"""What an attack came to, from the pool's own store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgpack
import sqlalchemy as sa
from attackrig import AttackRig
from audit import lost_units, wrong_rows
from sqlalchemy import func, select
from world import SimJob, World

from pool.store import schema
from pool.store.ledger import balances
from shares.money import posting
from shares.policy import PPM

DEPOSIT = 10_000_000  # units that a customer brings


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run. Work is in rows, money in units; a row is one unit of work at one unit."""

    attackers: int
    caught: int  # attacking accounts with a rejected share
    banned: int  # attacking accounts that were banned
    work_until: int | None  # rows answered by all attackers before the first rejection
    answered: int  # rows that attackers answered
    lies: int  # of them wrong
    delivered: int  # wrong rows among the results of jobs
    pay: int  # attackers' pending, held and available, and what a partner did not have to pay
    computed: float  # rows that attackers computed honestly
    honest_lost: int  # units that other accounts, and victims, earned and lost again
    honest_banned: int
    honest_shares: int  # rejected shares of other accounts
    fined: int  # units of held pay that victims lost
    seconds: float  # until the job's end, or until nobody waited any longer
    finished: bool
    checks: int  # rows computed again of honest, established rigs
    checkable: int  # rows of honest, established rigs
    waits: tuple[float, ...] = ()  # seconds from an honest share's last part to its verdict

    @property
    def profit(self) -> float:
        """Against honest work: what it has beyond the pay of what it computed."""
        return self.pay - self.computed


def measure(
    world: World, job: SimJob, rigs: Sequence[AttackRig], *, partner: bool, victims: bool
) -> Outcome:
    """Look at the store after the job; ``rigs`` are the attacker's, ``partner``: and the customer.

    ``victims``: their rigs are at fault, and they are not.
    """
    names = {rig.account for rig in rigs}
    lease, trust = schema.lease, schema.trust
    with world.store.database.read() as connection:
        rejected = connection.execute(
            select(lease.c.account, lease.c.judged).where(lease.c.verdict == "rejected")
        ).all()
        banned = set(connection.scalars(select(trust.c.account).where(trust.c.banned_until > 0)))
        first = min((row.judged for row in rejected if row.account in names), default=None)
        checks, checkable = _checking(connection, names)
        return Outcome(
            attackers=len(names),
            caught=len({row.account for row in rejected} & names),
            banned=len(banned & names),
            work_until=None if first is None else _answered(connection, names, first),
            answered=sum(rig.answered for rig in rigs),
            lies=sum(rig.lies for rig in rigs),
            delivered=len(wrong_rows(world, job)),
            pay=_pay(connection, names) + (_unpaid(connection, job) if partner else 0),
            computed=sum(rig.computed for rig in rigs),
            honest_lost=sum(
                u for name, u in lost_units(world).items() if victims or name not in names
            ),
            honest_banned=len(banned - names),
            honest_shares=sum(row.account not in names for row in rejected),
            seconds=job.closed or world.now,
            finished=job.state == "completed",
            fined=_fined(connection, names) if victims else 0,
            checks=checks,
            checkable=checkable,
            waits=_waits(connection, names),
        )


def _pay(connection: sa.Connection, names: Collection[str]) -> int:
    total = sum(
        balances(connection, posting.available(name)).get(posting.available(name), 0)
        for name in names
    )
    for prefix in ("pending:", "held:"):
        for code, units in balances(connection, prefix).items():
            if code.removeprefix(prefix).partition(".")[0] in names:
                total += units
    return total


def _unpaid(connection: sa.Connection, job: SimJob) -> int:
    """What the customer did not have to pay of the price of a job that was done."""
    row = connection.execute(select(schema.job).where(schema.job.c.id == job.job)).one()
    price = row.pay_reserved + row.check_reserved + row.fee_reserved
    left = balances(connection, posting.customer(job.customer))
    return int(left[posting.customer(job.customer)] - DEPOSIT + price)


def _answered(connection: sa.Connection, names: Collection[str], until: float) -> int:
    lease, part = schema.lease, schema.part
    return int(
        connection.scalar(
            select(func.coalesce(func.sum(part.c.rows), 0))
            .join(lease, lease.c.id == part.c.lease)
            .where(lease.c.account.in_(names), part.c.at <= until)
        )
        or 0
    )


def _fined(connection: sa.Connection, names: Collection[str]) -> int:
    forfeit = schema.forfeit.c
    units = select(func.coalesce(func.sum(forfeit.units), 0)).where(forfeit.account.in_(names))
    return int(connection.scalar(units) or 0)


def _waits(connection: sa.Connection, names: Collection[str]) -> tuple[float, ...]:
    lease, part = schema.lease.c, schema.part.c
    rows = connection.execute(
        select(lease.judged, func.max(part.at).label("last"))
        .join(schema.part, part.lease == lease.id)
        .where(lease.account.not_in(names), lease.judged.is_not(None))
        .group_by(lease.id, lease.judged)
    )
    return tuple(sorted(row.judged - row.last for row in rows))


def _checking(connection: sa.Connection, names: Collection[str]) -> tuple[int, int]:
    """Rows drawn, and rows, of the parts of established rigs that nobody suspects."""
    lease, part = schema.lease, schema.part
    drawn = rows = 0
    for row in connection.execute(
        select(part.c.rows, part.c.check_rows, part.c.referee_rows)
        .join(lease, lease.c.id == part.c.lease)
        .where(
            lease.c.account.not_in(names), part.c.check_rate_ppm < PPM, lease.c.suspect.is_(False)
        )
    ):
        rows += row.rows
        drawn += len(msgpack.unpackb(row.check_rows)) + len(msgpack.unpackb(row.referee_rows))
    return drawn, rows

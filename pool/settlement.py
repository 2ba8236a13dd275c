"""Settlement: credits and verdicts become ledger entries; what a job left over is returned.

A credit is committed with the part that earned it. Settlement comes after, as often as it likes:
``credit.posted`` says how far the ledger has followed ``credit.state``, and changes in the same
transaction as the entries. Long backlogs are posted in batches, so that the board's commits
never wait long.

In every transaction what comes back to an escrow is posted before what is taken from it: the rows
of a rejected share are credited to somebody else, and both may be waiting here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import bindparam, func, or_, select, update

from pool.config import Config
from pool.crashpoints import crash_point
from pool.store import schema
from pool.store.advances import repay, skip_advances
from pool.store.corrections import unrefunded_corrections
from pool.store.database import Database
from pool.store.escrow import job_ref
from pool.store.ledger import balance, balances_of, post
from pool.store.pots import PotTerms, divide_pot
from pool.store.releases import (
    Release,
    ReleasePolicy,
    post_releases,
    release_candidates,
    releases_due,
)
from pool.store.reserve import reserve_change
from shares.money import posting
from shares.money.apportion import due

PPM = 1_000_000
BATCH = 2_000  # credits in one transaction

_PAYING = ("pending", "cleared")
_OVER = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class SettlementPolicy:
    """What settlement goes by."""

    referee_cap_ppm: int = 200_000  # most of a job's levy that the referee's runs may cost
    release: ReleasePolicy = field(default_factory=ReleasePolicy)
    scheme: str = "proportional"  # | pplns | pps
    pot: PotTerms = field(default_factory=PotTerms)


def settlement_policy(config: Config) -> SettlementPolicy:
    """Settlement's rules from the operator's settings."""
    return SettlementPolicy(
        referee_cap_ppm=config.money.referee_cap_ppm,
        release=ReleasePolicy(
            hold_seconds=config.trust.hold_seconds,
            minimum_rows=config.policy().minimum_hold_rows,
            price=config.money.price,
        ),
        scheme=config.money.scheme,
        pot=PotTerms(
            round_seconds=config.money.round_seconds,
            window=config.money.pplns_window * config.money.price,
        ),
    )


@dataclass(frozen=True, slots=True)
class Settled:
    """What one settlement did."""

    credits: int  # credits that the ledger followed
    jobs: tuple[int, ...]  # jobs whose escrows were emptied
    reserve_change: int  # units the reserve gained or lost outside the board: tell it
    released: tuple[Release, ...]  # held pay that became available: tell the board
    unpaid: tuple[int, ...]  # credits that their source could not pay: the board overspent it


@dataclass(slots=True)
class _Posted:
    credits: int = 0
    jobs: list[int] = field(default_factory=list)
    unpaid: dict[int, None] = field(default_factory=dict)  # ids, in order


def settle(database: Database, policy: SettlementPolicy, at: float) -> Settled:
    """Post everything that waits, and release held pay that is due. Idempotent.

    For the pool's own process: what it returns must reach the board (``ReserveChanged``,
    ``HoldReleased``).
    """
    posted = post_everything(database, policy, at)
    # Whatever the scheme is now: what an earlier one left is paid back, and divided.
    released: tuple[Release, ...] = repay(database, policy.release, at)
    if releases_due(database, policy.release, at):
        candidates = release_candidates(database, policy.release, at)
        pooled = policy.scheme == "pplns"
        released = (*released, *post_releases(database, candidates, at, pooled=pooled))
    with database.write() as connection:
        divide_pot(connection, policy.pot, at)
        if policy.scheme != "pps":
            skip_advances(connection)
        change = reserve_change(connection)
    return Settled(
        credits=posted.credits,
        jobs=tuple(posted.jobs),
        reserve_change=change,
        released=released,
        unpaid=tuple(posted.unpaid),
    )


def post_everything(database: Database, policy: SettlementPolicy, at: float) -> _Posted:
    """Post what waits, in batches, without telling anyone: for commands beside a running pool."""
    posted = _Posted()
    finished = False
    while not finished:
        with database.write() as connection:
            crash_point("settlement.begun")
            finished = _post_batch(connection, policy, at, posted)
            crash_point("settlement.before_commit")
        crash_point("settlement.committed")
    return posted


def _post_batch(
    connection: sa.Connection, policy: SettlementPolicy, at: float, posted: _Posted
) -> bool:
    """Post at most ``BATCH`` credits; with the last of them, all that comes after credits."""
    rejected = _waiting(connection, ("rejected",), BATCH, posted.unpaid)
    _post_rejected(connection, rejected, at)
    forfeited = _waiting(connection, ("forfeited",), BATCH - len(rejected), posted.unpaid)
    _post_forfeited(connection, forfeited, at)
    returning = [*rejected, *forfeited]
    paying = _waiting(connection, _PAYING, BATCH - len(returning), posted.unpaid)
    paid = _affordable(connection, paying, posted.unpaid)
    _post_payments(connection, paid, at)
    _mark(connection, [*returning, *paid])
    posted.credits += len(returning) + len(paid)
    if len(returning) + len(paying) >= BATCH:
        return False
    _post_held_forfeits(connection, at)
    _refund_corrections(connection, at)
    _make_good(connection, at)
    _settle_jobs(connection, policy, at, posted)
    return True


# ── credits ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Credit:
    id: int
    job: int
    kind: str
    source: str
    rig: str  # ACCOUNT.RIG
    work: int
    amount: int
    state: str
    posted: str | None


def _waiting(
    connection: sa.Connection, states: tuple[str, ...], limit: int, without: dict[int, None]
) -> list[_Credit]:
    table = schema.credit
    if limit <= 0:
        return []
    query = (
        select(table)
        .where(table.c.posted.is_distinct_from(table.c.state), table.c.state.in_(states))
        .order_by(table.c.state, table.c.id)
        .limit(limit + len(without))
    )
    found = [
        _Credit(
            id=row.id,
            job=row.job,
            kind=row.kind,
            source=row.source,
            rig=f"{row.account}.{row.rig}",
            work=row.work,
            amount=row.amount,
            state=row.state,
            posted=row.posted,
        )
        for row in connection.execute(query)
        if row.id not in without
    ]
    return found[:limit]


def _post_rejected(connection: sa.Connection, waiting: Sequence[_Credit], at: float) -> None:
    # What was never taken from its source needs no way back.
    rejected = [credit for credit in waiting if credit.posted is not None]
    for (job, source), group in _grouped(rejected).items():
        entries = posting.returned(job, source, _by_rig(group))
        post(connection, f"returned.{source}", _ref(job, group), entries, at)


def _post_forfeited(connection: sa.Connection, waiting: Sequence[_Credit], at: float) -> None:
    """Pay for rows goes back to their job, which pays for them again; other pay is kept."""
    pending = [credit for credit in waiting if credit.posted is not None]
    for (job, source), group in _grouped(pending).items():
        entries = posting.forfeited(_by_rig(group))
        post(connection, f"forfeited.{source}", _ref(job, group), entries, at)
        if source == "pay":
            refill = posting.refilled(job, sum(credit.amount for credit in group))
            post(connection, "refilled.pay", _ref(job, group), refill, at)
    never_taken = [c for c in waiting if c.posted is None and c.source != "pay"]
    for (job, source), group in _grouped(_affordable(connection, never_taken, {})).items():
        entries = posting.forfeited_at_source(job, source, sum(c.amount for c in group))
        post(connection, f"forfeited.{source}", f"{_ref(job, group)}:source", entries, at)


def _affordable(
    connection: sa.Connection, waiting: Sequence[_Credit], unpaid: dict[int, None]
) -> list[_Credit]:
    """Those whose source has the units; the others are added to ``unpaid``."""
    fresh = [credit for credit in waiting if credit.posted is None]
    left = balances_of(connection, {posting.source_code(c.source, c.job) for c in fresh})
    for credit in fresh:
        code = posting.source_code(credit.source, credit.job)
        if left[code] < credit.amount:
            unpaid[credit.id] = None
        else:
            left[code] -= credit.amount
    return [credit for credit in waiting if credit.id not in unpaid]


def _post_payments(connection: sa.Connection, paid: Sequence[_Credit], at: float) -> None:
    _post_accepted(connection, [credit for credit in paid if credit.posted is None], at)
    cleared = [credit for credit in paid if credit.state == "cleared"]
    for (job, source), group in _grouped(cleared).items():
        entries = posting.cleared(_by_rig(group))
        post(connection, f"cleared.{source}", _ref(job, group), entries, at)
    work: dict[int, list[_Credit]] = defaultdict(list)
    for credit in cleared:
        if credit.kind == "row":
            work[credit.job].append(credit)
    for job, group in work.items():
        _post_fee(connection, job, group, at)


def _post_accepted(connection: sa.Connection, fresh: Sequence[_Credit], at: float) -> None:
    for (job, source), group in _grouped(fresh).items():
        entries = posting.accepted(job, source, _by_rig(group))
        post(connection, f"accepted.{source}", _ref(job, group), entries, at)


def _post_fee(connection: sa.Connection, job: int, group: list[_Credit], at: float) -> None:
    table = schema.job
    row = connection.execute(
        select(table.c.work, table.c.paid_work, table.c.fee_reserved).where(table.c.id == job)
    ).one_or_none()
    if row is None:
        return
    paid_work = min(row.work, row.paid_work + sum(credit.work for credit in group))
    connection.execute(update(table).where(table.c.id == job).values(paid_work=paid_work))
    units = due(row.fee_reserved, paid_work, row.work) - due(
        row.fee_reserved, row.paid_work, row.work
    )
    post(connection, "fee", _ref(job, group), posting.fee_earned(job, units), at)


def _mark(connection: sa.Connection, done: Sequence[_Credit]) -> None:
    if done:
        connection.execute(
            update(schema.credit)
            .where(schema.credit.c.id == bindparam("key"))
            .values(posted=bindparam("new_posted")),
            [{"key": credit.id, "new_posted": credit.state} for credit in done],
        )


def _grouped(waiting: Sequence[_Credit]) -> dict[tuple[int, str], list[_Credit]]:
    groups: dict[tuple[int, str], list[_Credit]] = defaultdict(list)
    for credit in waiting:
        groups[credit.job, credit.source].append(credit)
    return groups


def _by_rig(group: Sequence[_Credit]) -> dict[str, int]:
    units: dict[str, int] = defaultdict(int)
    for credit in group:
        units[credit.rig] += credit.amount
    return units


def _ref(job: int, group: Sequence[_Credit]) -> str:
    # A credit is posted once in each way, so one credit of a batch names the batch.
    return job_ref(job, min(credit.id for credit in group))


# ── what comes after credits ──────────────────────────────────────────────────


def _post_held_forfeits(connection: sa.Connection, at: float) -> None:
    """Held pay that was forfeited. A release may have come first: then what is left goes."""
    table = schema.forfeit
    for row in connection.execute(select(table).where(~table.c.posted).order_by(table.c.at)).all():
        rig = f"{row.account}.{row.rig}"
        units = min(row.units, balance(connection, posting.held(rig)))
        entries = posting.held_forfeited(rig, units)
        post(connection, "held_forfeited", f"{rig}:{row.number}", entries, at)
        connection.execute(
            update(table)
            .where(
                table.c.account == row.account,
                table.c.rig == row.rig,
                table.c.number == row.number,
            )
            .values(posted=True)
        )


def _refund_corrections(connection: sa.Connection, at: float) -> None:
    """Delivered rows that were found wrong: their price comes back, as far as forfeits reach.

    Forfeits pay first for rows that are done again, and what is left of them goes to the reserve;
    whoever was wrong has just been fined, so there mostly is enough.
    """
    table, job = schema.refuted, schema.job.c
    found = connection.execute(unrefunded_corrections()).all()
    units: dict[int, int] = defaultdict(int)
    for row in found:
        units[row.job] += row.units
    for number, wanted in units.items():
        given = min(wanted, balance(connection, posting.FORFEITS))
        account = connection.scalar(select(job.account).where(job.id == number))
        first = next(row for row in found if row.job == number)
        ref = job_ref(number, first.lease) + f":{first.block}:{first.row}"
        post(connection, "refunded", ref, posting.refunded(str(account), given), at)
    connection.execute(update(table).where(~table.c.refunded).values(refunded=True))


def _make_good(connection: sa.Connection, at: float) -> None:
    """Give back what appeals won, from what the operator has; the rest as it earns more."""
    table = schema.appeal
    owed = connection.execute(select(table).where(table.c.paid < table.c.units)).all()
    for row in owed:
        paid = row.paid
        for source in (posting.OPERATOR_FEE, posting.OPERATOR_COST):
            units = min(row.units - paid, balance(connection, source))
            if units > 0:
                entries = posting.made_good(row.account, source, units)
                post(connection, "made_good", f"{row.lease}:{paid}", entries, at)
                paid += units
        connection.execute(update(table).where(table.c.lease == row.lease).values(paid=paid))


def _settle_jobs(
    connection: sa.Connection, policy: SettlementPolicy, at: float, posted: _Posted
) -> None:
    """Empty the escrows of every job that is over and whose shares all have their verdict."""
    job, credit = schema.job, schema.credit
    undecided = (
        select(credit.c.id).where(credit.c.job == job.c.id, credit.c.state == "pending").exists()
    )
    unpaid = select(credit.c.job).where(credit.c.posted.is_distinct_from(credit.c.state))
    over = connection.execute(
        select(job)
        .where(
            job.c.settled.is_(None),
            or_(job.c.closed.is_not(None), job.c.state.in_(_OVER)),
            ~undecided,
            job.c.id.not_in(unpaid),
        )
        .order_by(job.c.id)
    ).all()
    for row in over:
        _charge_referee(connection, row.id, row.check_reserved, policy, at)
        pay, check, fee = posting.escrows(row.id)
        rest = balances_of(connection, (pay, check, fee))
        unused = rest[check]
        if _was_worked_on(connection, row.id):
            undone = (row.work - row.paid_work) * row.price
            unused = min(rest[check], undone * row.assurance_ppm // PPM)
        entries = posting.completed(
            row.account, row.id, pay=rest[pay], check=rest[check], fee=rest[fee], unused=unused
        )
        post(connection, "completed", job_ref(row.id), entries, at)
        # Rows of this job that were forfeited are paid for again; nothing else waits for forfeits.
        left = balance(connection, posting.FORFEITS)
        post(connection, "swept", f"after:{row.id}", posting.swept(left), at)
        connection.execute(update(job).where(job.c.id == row.id).values(settled=at))
        posted.jobs.append(row.id)


def _was_worked_on(connection: sa.Connection, job: int) -> bool:
    table = schema.credit
    return connection.scalar(select(table.c.id).where(table.c.job == job).limit(1)) is not None


def _charge_referee(
    connection: sa.Connection, job: int, levy: int, policy: SettlementPolicy, at: float
) -> None:
    """The referee is paid last: from what the checkers left, and at most its share of the levy."""
    table = schema.referee_run
    cost = connection.scalar(
        select(func.coalesce(func.sum(table.c.amount), 0)).where(table.c.job == job)
    )
    guilty = min(
        _cost_of_false_rows(connection, job), int(cost or 0), balance(connection, posting.FORFEITS)
    )
    entries = posting.guilty_referee(job, guilty)
    post(connection, "referee.guilty", job_ref(job), entries, at)
    left = balance(connection, posting.escrow_check(job))
    units = min(int(cost or 0), levy * policy.referee_cap_ppm // PPM, left)
    post(connection, "referee", job_ref(job), posting.referee_charged(job, units), at)
    connection.execute(update(table).where(table.c.job == job).values(posted=True))


def _cost_of_false_rows(connection: sa.Connection, job: int) -> int:
    """What runs on rows that proved an offence cost, at their shares' ordinary row."""
    refuted, lease, of = schema.refuted.c, schema.lease.c, schema.job.c
    units = connection.scalar(
        select(func.coalesce(func.sum(lease.work // lease.rows * of.price), 0))
        .join(schema.lease, lease.id == refuted.lease)
        .join(schema.job, of.id == refuted.job)
        .where(refuted.job == job, refuted.offence)
    )
    return int(units or 0)

"""A round: every miner with enough to be paid is looked at, and what may be paid is reserved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from pool.crashpoints import crash_point
from pool.payouts.policies import Case, Decision, Policy, decide
from pool.store.accounts import all_accounts, audit
from pool.store.database import Database
from pool.store.ledger import balance, balances
from pool.store.payees import Payee, attestation_of, payee_of, payout_minimum
from pool.store.payouts import close_round, note_wait, open_round, paid_since, reserve
from shares.money import posting

_log = structlog.get_logger("pool.payouts")


@dataclass(frozen=True, slots=True)
class Terms:
    """Whom the pool pays. ``kind`` of address; empty: any. Units."""

    kind: str
    minimum: int
    policies: Sequence[tuple[str, Policy]] = ()


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """What a round came to."""

    number: int
    payouts: int
    units: int
    waiting: int  # accounts that have enough and were not paid: see ``payout_wait``


def pay_round(database: Database, terms: Terms, at: float) -> RoundClosed:
    """Go through all miners, each in a transaction of its own; a round that was begun is ended.

    Nobody's bad address, and no policy that fails, keeps the others waiting.
    """
    with database.write() as connection:
        number = open_round(connection, at)
        crash_point("payout.before_commit")
    crash_point("payout.committed")
    with database.read() as connection:
        available = balances(connection, posting.available(""))
        closed = {one.name: one.closed is not None for one in all_accounts(connection)}
    payouts = units = waiting = 0
    for code, has in available.items():
        account = code.partition(":")[2]
        with database.read() as connection:
            least = max(terms.minimum, payout_minimum(connection, account))
        if has < (1 if closed.get(account) else max(1, least)):
            continue
        paid = _pay(database, terms, number, account, at)
        payouts += paid > 0
        units += paid
        waiting += not paid
    with database.write() as connection:
        close_round(connection, number, at)
        crash_point("payout.before_commit")
    crash_point("payout.committed")
    _log.info("a payout round was closed", round=number, payouts=payouts, units=units)
    return RoundClosed(number, payouts, units, waiting)


def _pay(database: Database, terms: Terms, number: int, account: str, at: float) -> int:
    """Reserve what the account has, if it may be paid; returns the units."""
    with database.read() as connection:
        payee = payee_of(connection, account)
        units = balance(connection, posting.available(account))
        reason = _unpayable(terms, payee, at)
        decision = Decision("allow")
        if payee is not None and reason is None:
            decision = decide(terms.policies, _case(connection, account, units, payee, at))
    if decision.verdict == "refuse":
        # Why is the operator's to say: the audit log has it.
        reason = "the operator's rules do not allow it: ask the operator"
    hold = f"held by policy {decision.reason}" if decision.verdict == "hold" else None
    with database.write() as connection:
        news = note_wait(connection, account, reason, at)
        if decision.verdict != "allow" and (news or hold):
            what = f"payout of {units} units to {account}: {decision.verdict}, {decision.reason}"
            audit(connection, at, what, "policy")
        if reason is not None or payee is None or payee_of(connection, account) != payee:
            return 0  # an address that changed since: in the next round
        if balance(connection, posting.available(account)) < units:
            return 0  # another round was quicker
        done = reserve(connection, number, account, units, payee.kind, payee.address, at, hold=hold)
        if done and terms.policies and decision.verdict == "allow":
            audit(connection, at, f"payout of {units} units to {account}: allow", "policy")
        crash_point("payout.before_commit")
    crash_point("payout.committed")
    return units if done else 0


def _unpayable(terms: Terms, payee: Payee | None, at: float) -> str | None:
    if payee is None:
        return "no payout address: set one with the account's payout token"
    if terms.kind and payee.kind != terms.kind:
        return f"the pool pays to addresses of type {terms.kind}, and this one is {payee.kind}"
    if payee.usable > at:
        return "the payout address was changed: it is used when its hold is over"
    return None


def _case(connection: sa.Connection, account: str, units: int, payee: Payee, at: float) -> Case:
    def recent(seconds: float) -> int:
        return paid_since(connection, account, at - seconds)

    attestation = attestation_of(connection, account)
    return Case(account, units, payee.kind, payee.address, attestation, at, recent)

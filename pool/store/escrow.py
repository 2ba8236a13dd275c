"""Money that comes in, and a job's price set aside before any work is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import func, select, update

from pool.accounts import Account, AccountError
from pool.store import schema
from pool.store.accounts import all_accounts, audit, need_account
from pool.store.database import Database
from pool.store.ledger import balance, balances, balances_of, post
from shares.money import posting
from shares.money.price import Price


class InsufficientQuotaError(Exception):
    """A customer has too little to pay for a job."""

    def __init__(self, account: str, needed: int, available: int) -> None:
        super().__init__(
            f"this costs {needed} units and account {account!r} has {available}: "
            "ask the operator for credit"
        )
        self.account = account
        self.needed = needed
        self.available = available


@dataclass(frozen=True, slots=True)
class Statement:
    """What one account has, in units. A customer's is in the first two, a miner's in the rest."""

    name: str
    role: str
    created: float
    closed: float | None
    balance: int = 0  # free to spend
    reserved: int = 0  # set aside for jobs that are not settled
    pending: int = 0  # earned by shares without a verdict
    held: int = 0  # cleared and not yet released
    available: int = 0  # to be paid out
    in_flight: int = 0  # on its way
    paid: int = 0  # in all, so far


def deposit(database: Database, name: str, units: int, at: float, actor: str = "operator") -> int:
    """Credit a customer, or seed the reserve (``name`` ``reserve``); returns what it has then.

    Raises ``AccountError`` for another kind of account and for units below 1.
    """
    if units < 1:
        raise AccountError(f"units must be at least 1, not {units}")
    with database.write() as connection:
        if name == posting.RESERVE:
            code = posting.RESERVE
        else:
            account = need_account(connection, name)
            if account.role != "customer":
                raise AccountError(
                    f"account {name!r} is a {account.role}'s: only a customer (or 'reserve') "
                    "is credited; a miner earns"
                )
            code = posting.customer(name)
        number = connection.scalar(select(func.max(schema.entry.c.seq))) or 0
        post(connection, "deposit", f"{name}:{number + 1}", posting.deposited(name, units), at)
        audit(connection, at, f"{units} units credited to {name}", actor)
        return balance(connection, code)


def reserve_job(
    connection: sa.Connection,
    job: int,
    account: str,
    price: Price,
    at: float,
    *,
    assurance_ppm: int = 0,
    trusted: bool = False,
) -> None:
    """Set a job's price aside, in the transaction that accepts the job.

    The job's row must exist; its ``work``, ``price`` and ``*_reserved`` columns are set here, and
    what is bought with them: checks of each row with the chance ``assurance_ppm``, trusted rigs.
    Raises ``InsufficientQuotaError`` before anything is changed.
    """
    code = posting.customer(account)
    has = balance(connection, code)
    if has < price.total:
        raise InsufficientQuotaError(account, price.total, has)
    post(
        connection,
        "reserved",
        job_ref(job),
        posting.reserved(account, job, pay=price.pay, check=price.check, fee=price.fee),
        at,
    )
    found = connection.execute(
        update(schema.job)
        .where(schema.job.c.id == job)
        .values(
            work=price.work,
            price=price.unit,
            pay_reserved=price.pay,
            check_reserved=price.check,
            fee_reserved=price.fee,
            assurance_ppm=assurance_ppm,
            trusted=trusted,
        )
    )
    if found.rowcount != 1:
        raise LookupError(f"there is no job {job} to reserve {price.total} units for")


def statements(connection: sa.Connection) -> list[Statement]:
    """What every account has, in the order in which they were made."""
    found = balances(connection)
    by_account: dict[str, int] = defaultdict(int)
    for code, units in found.items():
        by_account[code.partition(".")[0]] += units  # of all its rigs
    reserved = _reserved_by_account(connection, found)
    return [
        _statement(account, by_account, reserved.get(account.name, 0))
        for account in all_accounts(connection)
    ]


def statement_of(connection: sa.Connection, account: Account) -> Statement:
    """What one account has, without looking at any other's."""
    name, job = account.name, schema.job.c
    found = balances_of(
        connection,
        [
            posting.customer(name),
            posting.available(name),
            posting.in_flight(name),
            posting.paid(name),
        ],
    )
    for code in (posting.pending(name), posting.held(name)):
        found[code] = sum(balances(connection, f"{code}.").values())
    unsettled = connection.scalars(select(job.id).where(job.account == name, job.settled.is_(None)))
    escrows = [code for number in unsettled for code in posting.escrows(number)]
    return _statement(account, found, sum(balances_of(connection, escrows).values()))


def _statement(account: Account, found: Mapping[str, int], reserved: int) -> Statement:
    name = account.name
    return Statement(
        name=name,
        role=account.role,
        created=account.created,
        closed=account.closed,
        balance=found.get(posting.customer(name), 0),
        reserved=reserved,
        pending=found.get(posting.pending(name), 0),
        held=found.get(posting.held(name), 0),
        available=found.get(posting.available(name), 0),
        in_flight=found.get(posting.in_flight(name), 0),
        paid=found.get(posting.paid(name), 0),
    )


def job_ref(job: int, first: int | None = None) -> str:
    """What ledger entries of a job refer to; ``first`` tells batches of its credits apart."""
    return f"job:{job}" if first is None else f"job:{job}:{first}"


def _reserved_by_account(connection: sa.Connection, found: dict[str, int]) -> dict[str, int]:
    table = schema.job
    reserved: dict[str, int] = {}
    for row in connection.execute(
        select(table.c.id, table.c.account).where(table.c.settled.is_(None))
    ):
        units = sum(found.get(code, 0) for code in posting.escrows(row.id))
        reserved[row.account] = reserved.get(row.account, 0) + units
    return reserved

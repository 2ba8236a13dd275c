"""Where miners are paid: their addresses, how little they take, what is attested of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import insert, select, update

from pool.accounts import Account, AccountError
from pool.store import schema
from pool.store.accounts import audit, find_account, need_account
from pool.store.database import Database, upsert
from shares.money.addresses import check

_COUNTED = 4  # addresses of an account that count
_HASH = re.compile(r"[0-9a-f]{64}")
_REFERENCE_LENGTH = 200
_MOST = 2**62


@dataclass(frozen=True, slots=True)
class Payee:
    """An account's present address. ``usable``: nothing is paid there before."""

    kind: str  # evm | text
    address: str
    since: float
    usable: float

    def news(self) -> str:
        """What the account's rigs are told of it."""
        moment = datetime.fromtimestamp(self.usable, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return (
            f"your account is paid at {self.address} from {moment} on: if that was not you, tell "
            "the pool's operator before then"
        )


@dataclass(frozen=True, slots=True)
class Attestation:
    """Somebody has looked at who an account's owner is: where the paper lies, and its SHA-256."""

    reference: str
    hash: str  # hex
    at: float


def set_payout_address(
    database: Database,
    name: str,
    kind: str,
    address: str,
    at: float,
    *,
    hold_seconds: float,
    actor: str = "operator",
) -> Payee:
    """From now on the account wants to be paid there; a change waits for ``hold_seconds``.

    The first address of an account waits for nothing: there is nobody whom it takes anything from.
    Naming the present address again changes nothing. Raises ``AccountError``, and ``AddressError``
    for what is no address of this kind.
    """
    address = check(kind, address)
    payee = schema.payee
    with database.write() as connection:
        need_miner(connection, name)
        current = payee_of(connection, name)
        if current is not None and (current.kind, current.address) == (kind, address):
            return current
        usable = at if current is None else at + hold_seconds
        connection.execute(
            update(payee).where(payee.c.account == name, payee.c.until.is_(None)).values(until=at)
        )
        connection.execute(
            insert(payee).values(account=name, since=at, kind=kind, address=address, usable=usable)
        )
        audit(connection, at, f"account {name} is paid at {address}", actor)
    return Payee(kind, address, at, usable)


def payee_of(connection: sa.Connection, name: str) -> Payee | None:
    """Where the account wants to be paid, if it has said so."""
    payee = schema.payee.c
    row = connection.execute(
        select(payee.kind, payee.address, payee.since, payee.usable).where(
            payee.account == name, payee.until.is_(None)
        )
    ).one_or_none()
    return None if row is None else Payee(*row)


def changed_payees(connection: sa.Connection, since: float) -> dict[str, Payee]:
    """{account: its address}, of those that were set after ``since``."""
    payee = schema.payee.c
    rows = connection.execute(
        select(payee.account, payee.kind, payee.address, payee.since, payee.usable)
        .where(payee.since > since, payee.until.is_(None))
        .order_by(payee.since)
    )
    return {row.account: Payee(row.kind, row.address, row.since, row.usable) for row in rows}


def payees_of(connection: sa.Connection, name: str, since: float) -> tuple[str, ...]:
    """The payout addresses that the account has, or had at some time after ``since``: a few.

    With any number of strangers' addresses it could choose who may not check it.
    """
    payee = schema.payee.c
    found = connection.scalars(
        select(payee.address)
        .where(payee.account == name, payee.until.is_(None) | (payee.until > since))
        .order_by(payee.since.desc())
        .limit(_COUNTED)
    )
    return tuple(sorted(set(found)))


def set_payout_minimum(
    database: Database, name: str, units: int, at: float, actor: str = "operator"
) -> None:
    """Pay the account no less than this at once. Raises ``AccountError``."""
    if not 0 <= units <= _MOST:
        raise AccountError(f"minimum must be from 0 to {_MOST} units, not {units}")
    account = schema.account
    with database.write() as connection:
        need_miner(connection, name)
        connection.execute(
            update(account).where(account.c.name == name).values(payout_minimum=units)
        )
        audit(connection, at, f"account {name} is paid from {units} units on", actor)


def payout_minimum(connection: sa.Connection, name: str) -> int:
    """What the account wants to be paid at least at once, in units; 0: as little as the pool."""
    account = schema.account.c
    return connection.scalar(select(account.payout_minimum).where(account.name == name)) or 0


def attest(database: Database, name: str, reference: str, digest: str, at: float) -> None:
    """Note that the owner of an account is known, and where that is written down.

    ``digest``: SHA-256 of the paper, in hex. Nothing else of a person is kept. Raises
    ``AccountError``.
    """
    if not 1 <= len(reference) <= _REFERENCE_LENGTH or not reference.isprintable():
        raise AccountError(
            f"reference must be 1 to {_REFERENCE_LENGTH} printable characters: "
            "the number of a case, say"
        )
    if not _HASH.fullmatch(digest):
        raise AccountError("hash must be the SHA-256 of the paper: 64 hex digits in small letters")
    with database.write() as connection:
        need_account(connection, name)
        upsert(
            connection,
            schema.attestation,
            [{"account": name, "reference": reference, "hash": digest, "at": at}],
        )
        audit(connection, at, f"account {name} is attested: {reference}")


def attestation_of(connection: sa.Connection, name: str) -> Attestation | None:
    """What is attested of the account's owner."""
    table = schema.attestation.c
    row = connection.execute(
        select(table.reference, table.hash, table.at).where(table.account == name)
    ).one_or_none()
    return None if row is None else Attestation(*row)


def need_miner(connection: sa.Connection, name: str) -> Account:
    """The miner account of this name; a closed one has pay to come. Raises ``AccountError``."""
    account = find_account(connection, name)
    if account is None:
        account = need_account(connection, name)
    if account.role != "miner":
        raise AccountError(f"account {name!r} is not a miner's: only miners are paid")
    return account

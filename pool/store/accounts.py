"""Accounts in the store: made, found by token, credited, closed; also while a pool runs."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import insert, select, update

from pool.accounts import (
    PAYOUT_TOKEN_PREFIX,
    Account,
    AccountError,
    check_name,
    check_role,
    new_token,
    token_hash,
)
from pool.store import schema
from pool.store.database import Database

_COLUMNS = (
    schema.account.c.id,
    schema.account.c.name,
    schema.account.c.role,
    schema.account.c.created,
    schema.account.c.closed,
)


def create_account(
    database: Database, name: str, role: str, at: float, actor: str = "operator"
) -> str:
    """Make an account; returns its token, which is shown this once and kept only as a hash.

    Raises ``AccountError`` for a name that is taken or not allowed, and for an unknown role.
    """
    check_name(name)
    check_role(role)
    token = new_token()
    with database.write() as connection:
        if find_account(connection, name) is not None:
            raise AccountError(f"account {name!r} exists already: choose another name")
        connection.execute(
            insert(schema.account).values(
                name=name, role=role, token_hash=token_hash(token), created=at
            )
        )
        audit(connection, at, f"account {name} created as {role}", actor)
    return token


def account_by_token(connection: sa.Connection, token: str) -> Account | None:
    """The open account that this token opens."""
    found = connection.execute(
        select(*_COLUMNS).where(
            schema.account.c.token_hash == token_hash(token), schema.account.c.closed.is_(None)
        )
    ).one_or_none()
    return None if found is None else Account(*found)


def renew_payout_token(database: Database, name: str, at: float, actor: str = "operator") -> str:
    """Give a miner a fresh payout token, shown this once; one that it had opens nothing any more.

    It says where the miner is paid and opens nothing else, so that who has a rig's token cannot
    lead its pay elsewhere. Raises ``AccountError``.
    """
    token = new_token(PAYOUT_TOKEN_PREFIX)
    with database.write() as connection:
        if need_account(connection, name).role != "miner":
            raise AccountError(f"account {name!r} is not a miner's: only miners are paid")
        connection.execute(
            update(schema.account)
            .where(schema.account.c.name == name)
            .values(payout_token_hash=token_hash(token))
        )
        audit(connection, at, f"account {name} has a new payout token", actor)
    return token


def account_by_payout_token(connection: sa.Connection, token: str) -> Account | None:
    """The miner's account, closed or not, whose payouts this token is for."""
    found = connection.execute(
        select(*_COLUMNS).where(schema.account.c.payout_token_hash == token_hash(token))
    ).one_or_none()
    return None if found is None else Account(*found)


def find_account(connection: sa.Connection, name: str) -> Account | None:
    """The account of this name, closed ones included."""
    found = connection.execute(select(*_COLUMNS).where(schema.account.c.name == name)).one_or_none()
    return None if found is None else Account(*found)


def need_account(connection: sa.Connection, name: str) -> Account:
    """The open account of this name. Raises ``AccountError`` when there is none."""
    found = find_account(connection, name)
    if found is None:
        raise AccountError(
            f"there is no account {name!r}: `inferpool account list` shows those there are"
        )
    if found.closed is not None:
        raise AccountError(f"account {name!r} is closed")
    return found


def all_accounts(connection: sa.Connection) -> list[Account]:
    """Every account, in the order in which they were made."""
    rows = connection.execute(select(*_COLUMNS).order_by(schema.account.c.id))
    return [Account(*row) for row in rows]


def mark_closed(connection: sa.Connection, name: str, at: float, actor: str = "operator") -> None:
    """From now on the account's token opens nothing."""
    connection.execute(
        update(schema.account).where(schema.account.c.name == name).values(closed=at)
    )
    audit(connection, at, f"account {name} closed", actor)


def audit(connection: sa.Connection, at: float, what: str, actor: str = "operator") -> None:
    """Note for later who did what."""
    connection.execute(insert(schema.audit_log).values(at=at, actor=actor, what=what))


def audit_lines(connection: sa.Connection, last: int) -> list[tuple[float, str, str]]:
    """(at, actor, what) of the last so many notes, in their order."""
    log = schema.audit_log.c
    rows = connection.execute(
        select(log.at, log.actor, log.what).order_by(log.id.desc()).limit(last)
    ).all()
    return [(row.at, row.actor, row.what) for row in reversed(rows)]

"""Browsers that are signed in to the pool's pages."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy import delete, insert, select

from pool.accounts import Account, token_hash
from pool.store import schema
from pool.store.accounts import account_by_token
from pool.store.database import Database

SESSION_SECONDS = 12 * 3600.0
_MOST_OF_ACCOUNT = 32  # sessions; the oldest makes room for a new one


def open_session(database: Database, token: str, at: float) -> tuple[Account, str] | None:
    """Sign in with an account's token: the account and what the browser keeps, None for no account.

    The session ends after ``SESSION_SECONDS``, with ``end_session``, when the account is closed, or
    when its token is changed.
    """
    session, table = schema.page_session, schema.page_session.c
    with database.write() as connection:
        account = account_by_token(connection, token)
        if account is None:
            return None
        secret = secrets.token_urlsafe(32)
        newest = (
            select(table.id_hash)
            .where(table.account == account.name)
            .order_by(table.opened.desc(), table.id_hash)
            .limit(_MOST_OF_ACCOUNT - 1)
        )
        connection.execute(
            delete(session).where(
                (table.ends <= at)
                | (table.account == account.name) & table.id_hash.not_in(newest.scalar_subquery())
            )
        )
        connection.execute(
            insert(session).values(
                id_hash=token_hash(secret),
                account=account.name,
                token_hash=token_hash(token),
                opened=at,
                ends=at + SESSION_SECONDS,
            )
        )
    return account, secret


def session_account(connection: sa.Connection, secret: str, at: float) -> Account | None:
    """Who is signed in with what a browser keeps; None when nobody is any more."""
    table, account = schema.page_session.c, schema.account.c
    found = connection.execute(
        select(account.id, account.name, account.role, account.created, account.closed)
        .join(schema.page_session, table.account == account.name)
        .where(
            table.id_hash == token_hash(secret),
            table.ends > at,
            account.closed.is_(None),
            account.token_hash == table.token_hash,
        )
    ).one_or_none()
    return None if found is None else Account(*found)


def end_session(database: Database, secret: str) -> None:
    """Sign out."""
    table = schema.page_session
    with database.write() as connection:
        connection.execute(delete(table).where(table.c.id_hash == token_hash(secret)))

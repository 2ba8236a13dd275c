"""Customers' files in the database. A file belongs to one account; others never see it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import insert, select, update

from pool.store import schema

DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file. ``object`` is its name in the object store; times in seconds since the epoch."""

    id: str
    account: str
    purpose: str  # batch | batch_output
    filename: str
    bytes: int
    object: str
    sha256: str
    status: str  # processed | deleted
    status_details: str | None = None
    created: float
    expires: float | None = None


def add_file(connection: sa.Connection, file: StoredFile) -> None:
    """Insert a file whose object is stored."""
    values = {name: getattr(file, name) for name in file.__slots__}
    connection.execute(insert(schema.file).values(values))


def find_file(connection: sa.Connection, account: str, file: str, now: float) -> StoredFile | None:
    """The account's file of this id, unless it is deleted or has expired."""
    table = schema.file
    row = connection.execute(
        select(table).where(table.c.id == file, *_visible(account, now))
    ).one_or_none()
    return None if row is None else StoredFile(**row._mapping)


def list_files(
    connection: sa.Connection,
    account: str,
    now: float,
    *,
    purpose: str | None,
    after: StoredFile | None,
    limit: int,
    newest_first: bool,
) -> list[StoredFile]:
    """A page of the account's files; files made at the same moment are ordered by id."""
    table = schema.file
    query = select(table).where(*_visible(account, now))
    if purpose is not None:
        query = query.where(table.c.purpose == purpose)
    key = sa.tuple_(table.c.created, table.c.id)
    if after is not None:
        edge = sa.tuple_(sa.literal(after.created), sa.literal(after.id))
        query = query.where(key < edge if newest_first else key > edge)
    order = (table.c.created, table.c.id)
    query = query.order_by(*(column.desc() for column in order) if newest_first else order)
    return [StoredFile(**row._mapping) for row in connection.execute(query.limit(limit))]


def mark_file_deleted(connection: sa.Connection, account: str, file: str) -> None:
    """From now on the file is not found."""
    table = schema.file
    connection.execute(
        update(table).where(table.c.id == file, table.c.account == account).values(status=DELETED)
    )


def any_expired(connection: sa.Connection, now: float) -> bool:
    """Whether ``take_expired_files`` has something to do."""
    table = schema.file
    query = select(table.c.id).where(*_expired(now))
    return connection.scalar(query.limit(1)) is not None


def take_expired_files(connection: sa.Connection, now: float, limit: int = 1000) -> list[str]:
    """Mark expired files as deleted; returns their objects, which may now be removed."""
    table = schema.file
    rows = connection.execute(
        select(table.c.id, table.c.object).where(*_expired(now)).limit(limit)
    ).all()
    if rows:
        connection.execute(
            update(table).where(table.c.id.in_([row.id for row in rows])).values(status=DELETED)
        )
    return [row.object for row in rows]


def _visible(account: str, now: float) -> tuple[sa.ColumnElement[bool], ...]:
    table = schema.file
    return (
        table.c.account == account,
        table.c.status != DELETED,
        sa.or_(table.c.expires.is_(None), table.c.expires > now),
    )


def _expired(now: float) -> tuple[sa.ColumnElement[bool], ...]:
    """What may be removed: not the input of a batch that is being validated."""
    table, job = schema.file, schema.job
    in_use = select(job.c.input_file).where(job.c.state == "validating")
    return (
        table.c.expires <= now,
        table.c.status != DELETED,
        table.c.id.not_in(in_use),
    )

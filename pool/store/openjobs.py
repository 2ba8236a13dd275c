"""What the board is told of a job that may be worked on."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import select

from pool.store import schema
from pool.store.database import StoreError
from shares.board.events import JobOpened
from stratum.manifest import BLAKE2B, Manifest, decode_manifest, encode_manifest, manifest_digest

_BUILTIN = {manifest_digest(encode_manifest(BLAKE2B)): BLAKE2B}


def manifest_of(connection: sa.Connection, digest: str) -> Manifest:
    """The manifest with this digest, of whatever was ever registered.

    Raises ``StoreError`` when the model is not.
    """
    if digest in _BUILTIN:
        return _BUILTIN[digest]
    text = connection.scalar(select(schema.model.c.manifest).where(schema.model.c.digest == digest))
    if text is None:
        raise StoreError(f"no model has the digest {digest}: register it with inferpool model add")
    return decode_manifest(text)


def job_opened(connection: sa.Connection, job: int, at: float) -> JobOpened:
    """The event for a job whose price is reserved and whose blocks are stored.

    Raises ``StoreError`` when there is no such job.
    """
    row = connection.execute(select(schema.job).where(schema.job.c.id == job)).one_or_none()
    if row is None:
        raise StoreError(f"there is no job {job}")
    manifest = manifest_of(connection, row.model)
    return JobOpened(
        at=at,
        job=job,
        account=row.account,
        model=row.model,
        operation=row.operation,
        direct=row.direct,
        blocks=row.blocks,
        rows=row.rows,
        work=row.work,
        price=row.price,
        check_budget=row.check_reserved,
        row_bytes=manifest.row_bytes,
        exact=manifest.exact,
        assurance_ppm=row.assurance_ppm,
        trusted=row.trusted,
    )


def block_object(connection: sa.Connection, job: int, block: int) -> str:
    """The object that holds a block's rows. Raises ``StoreError`` when there is no such block."""
    name = connection.scalar(
        select(schema.block.c.object).where(schema.block.c.job == job, schema.block.c.no == block)
    )
    if name is None:
        raise StoreError(f"job {job} has no block {block}")
    return str(name)

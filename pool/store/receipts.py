"""Roots and receipts in the database: sealed with the group of their parts, read for rigs."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam, insert, select

from pool.store import schema
from pool.store.signing import Signer
from shares.board.effects import CreditEarned, PartAccepted
from shares.receipts import (
    FIRST_PREVIOUS,
    Leaf,
    Receipt,
    Root,
    SignedRoot,
    tree_paths,
    tree_root,
)

# Made once: making a statement takes longer than running it.
_accounts = select(schema.lease.c.id, schema.lease.c.account).where(
    schema.lease.c.id.in_(bindparam("leases", expanding=True))
)
_last_root = select(schema.root).order_by(schema.root.c.sequence.desc()).limit(1)
_NEAR = 4  # roots of the same moment
_new_root, _new_receipts = insert(schema.root), insert(schema.receipt)


def seal(
    connection: sa.Connection,
    signer: Signer,
    parts: Sequence[PartAccepted],
    credits_earned: Sequence[CreditEarned],
) -> None:
    """Write the group's root and the places of its leaves. Its leases must be written already."""
    if not parts:
        return
    leases = list({part.lease for part in parts})
    found = connection.execute(_accounts, {"leases": leases})
    accounts = {row.id: row.account for row in found}
    works: dict[tuple[int, int], int] = {}
    for credit in credits_earned:
        key = (credit.lease, credit.part)
        works[key] = works.get(key, 0) + credit.work
    leaves = [
        Leaf(
            part.lease,
            part.part,
            part.rows,
            works.get((part.lease, part.part), 0),
            round(part.at * 1e6),
            part.digest,
            accounts[part.lease],
        )
        for part in parts
    ]
    last = connection.execute(_last_root).first()
    before = None if last is None else _signed(last).root
    root = Root(
        1 if before is None else before.sequence + 1,
        len(leaves),
        max(leaf.at for leaf in leaves),
        tree_root([leaf.hashed() for leaf in leaves]),
        FIRST_PREVIOUS if before is None else before.link(),
    )
    connection.execute(
        _new_root,
        {
            "sequence": root.sequence,
            "leaves": root.leaves,
            "at": root.at,
            "root": root.root,
            "previous": root.previous,
            "signature": signer.sign(root.message()),
        },
    )
    connection.execute(
        _new_receipts,
        [
            {
                "sequence": root.sequence,
                "index": index,
                "lease": leaf.lease,
                "part": leaf.part,
                "work": leaf.work,
                "account": leaf.account,
            }
            for index, leaf in enumerate(leaves)
        ],
    )


def roots_after(connection: sa.Connection, after: int, limit: int) -> list[SignedRoot]:
    """The roots behind sequence number ``after``, in their order."""
    root = schema.root
    rows = connection.execute(
        select(root).where(root.c.sequence > after).order_by(root.c.sequence).limit(limit)
    )
    return [_signed(row) for row in rows]


def last_roots(connection: sa.Connection, limit: int) -> list[SignedRoot]:
    """The newest roots, the newest first."""
    root = schema.root
    return [
        _signed(row)
        for row in connection.execute(select(root).order_by(root.c.sequence.desc()).limit(limit))
    ]


def places_of_share(connection: sa.Connection, lease: int) -> list[tuple[int, int, int, int]]:
    """(part, sequence of its root, index of its leaf, work) of a share's receipts."""
    receipt, part, root = schema.receipt.c, schema.part.c, schema.root.c
    moments = connection.scalars(select(part.at).where(part.lease == lease)).all()
    # A root's time is that of its newest part: so few roots may hold a part of this moment.
    sequences = {
        sequence
        for at in moments
        for sequence in connection.scalars(
            select(root.sequence)
            .where(root.at >= round(at * 1e6))
            .order_by(root.at, root.sequence)
            .limit(_NEAR)
        )
    }
    rows = connection.execute(
        select(receipt.part, receipt.sequence, receipt.index, receipt.work)
        .where(receipt.sequence.in_(sequences), receipt.lease == lease)
        .order_by(receipt.part)
    )
    return [(part, sequence, index, work) for part, sequence, index, work in rows]


def receipts_after(
    connection: sa.Connection, account: str, after: int, roots: int
) -> tuple[list[Receipt], int | None]:
    """All receipts of an account under its next ``roots`` roots behind ``after``.

    Also the sequence number to go on behind, ``None`` when there are no more.
    """
    page, following = roots_of(connection, account, after, roots)
    receipts: list[Receipt] = []
    for sequence in page:
        receipts += _of_root(connection, sequence, account)
    return receipts, following


def roots_of(
    connection: sa.Connection, account: str, after: int, limit: int
) -> tuple[list[int], int | None]:
    """The next roots behind ``after`` that hold parts of an account.

    Also the sequence number to go on behind, ``None`` when there are no more.
    """
    receipt = schema.receipt.c
    sequences = connection.scalars(
        select(receipt.sequence)
        .where(receipt.account == account, receipt.sequence > after)
        .distinct()
        .order_by(receipt.sequence)
        .limit(limit + 1)
    ).all()
    page = list(sequences[:limit])
    return page, page[-1] if len(sequences) > limit else None


def _of_root(connection: sa.Connection, sequence: int, account: str) -> list[Receipt]:
    receipt, part = schema.receipt, schema.part
    signed = _signed(
        connection.execute(select(schema.root).where(schema.root.c.sequence == sequence)).one()
    )
    rows = connection.execute(
        select(receipt, part.c.rows, part.c.at, part.c.digest)
        .join(part, (part.c.lease == receipt.c.lease) & (part.c.no == receipt.c.part))
        .where(receipt.c.sequence == sequence)
        .order_by(receipt.c.index)
    )
    leaves = [
        Leaf(r.lease, r.part, r.rows, r.work, round(r.at * 1e6), r.digest, r.account) for r in rows
    ]
    own = [index for index, leaf in enumerate(leaves) if leaf.account == account]
    paths = tree_paths([leaf.hashed() for leaf in leaves], own)
    return [
        Receipt(leaves[index], index, path, signed) for index, path in zip(own, paths, strict=True)
    ]


def _signed(row: sa.Row[tuple[object, ...]]) -> SignedRoot:
    value = row._mapping
    return SignedRoot(
        Root(value["sequence"], value["leaves"], value["at"], value["root"], value["previous"]),
        value["signature"],
    )

"""A small history that can be killed anywhere and taken up again: run as a program by tests.

``python crash_history.py FOLDER``: does what is left of the history and says on standard output
what is acknowledged, one line each, as it happens.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from bookmaker import Bookmaker
from sqlalchemy import select

from pool.accounts import AccountError
from pool.store import Store, schema
from pool.store.escrow import deposit
from pool.store.ledger import balance
from shares.blocks import Kind, Segment
from shares.board.effects import (
    CreditEarned,
    HeldForfeited,
    LeaseEnded,
    LeaseIssued,
    ShareJudged,
    Won,
)

SHARES = 6
ROWS = 20  # of each share
JOB = 1


def _to_standard_output(what: str) -> None:
    os.write(1, f"{what}\n".encode())


def rig_of(lease: int) -> str:
    """The third share is a cheat's; what it gets wrong is done again by another."""
    return "mallory.m" if lease == 3 else "alice.a"


def rows_of(lease: int) -> tuple[int, int]:
    start = 40 if lease == SHARES + 1 else (lease - 1) * ROWS
    return start, start + ROWS


def play(folder: Path, acknowledge: Callable[[str], None], *, durable: bool) -> None:
    """Go on from wherever the folder is."""
    store = Store.open(folder, durable=durable)
    books = Bookmaker(store)
    store.recover(books.arrays)
    _open(books, acknowledge)
    for lease in range(1, SHARES + 2):
        if _share(books, lease):
            acknowledge(f"part {lease}")
        if _verdict(books, lease):
            acknowledge(f"verdict {lease}")
        store.objects.put(f"made/{lease}", b"object %d" % lease * 1000)
        acknowledge(f"object {lease}")
        books.settle()
        acknowledge(f"settled {lease}")
    if _state(books, schema.job.c.closed, JOB) is None:
        books.close(JOB)
    books.settle()
    acknowledge("finished")
    store.close()


def _open(books: Bookmaker, acknowledge: Callable[[str], None]) -> None:
    with contextlib.suppress(AccountError):
        books.customer(units=0)
    with books.store.database.read() as connection:
        opened = connection.scalar(select(schema.job.c.id))
        rich = opened or balance(connection, "customer:carol")
    if not rich:
        deposit(books.store.database, "carol", 1_000_000, books.at)
        acknowledge("deposit")
    if not opened:
        books.job(blocks=(SHARES * ROWS,))
        acknowledge("job")


def _share(books: Bookmaker, lease: int) -> bool:
    if _state(books, schema.lease.c.verdict, lease) is not None:
        return False
    start, stop = rows_of(lease)
    part, payloads = books.part_records(lease, 0, 0, [Won(JOB, 0, start, stop, 0)])
    account, _, rig = rig_of(lease).partition(".")
    segments = (Segment(JOB, 0, start, stop, Kind.ROW),)
    books.commit(
        LeaseIssued(lease, account, rig, "m", "digest", segments, ROWS, ROWS, ROWS, 1.0, 2.0),
        part,
        CreditEarned(lease, 0, JOB, "row", "pay", account, rig, ROWS, ROWS),
        LeaseEnded(lease, "done", "none", 2.0),
        payloads=payloads,
    )
    return True


def _verdict(books: Bookmaker, lease: int) -> bool:
    if _state(books, schema.lease.c.verdict, lease) != "accepted":
        return False
    if rig_of(lease) == "mallory.m":
        books.commit(
            ShareJudged(lease, "rejected", "offence", True, books.at),
            HeldForfeited("mallory", "m", 0, 1, "offence", lease, books.at),
        )
    else:
        books.judge(lease, "cleared")
    return True


def _state(books: Bookmaker, column, number: int) -> str | None:
    with books.store.database.read() as connection:
        return connection.scalar(select(column).where(column.table.c.id == number))


if __name__ == "__main__":
    play(Path(sys.argv[1]), _to_standard_output, durable=True)

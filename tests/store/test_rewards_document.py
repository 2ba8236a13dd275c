"""The worked example of docs/REWARDS.md, posted by the product's own code."""

from __future__ import annotations

import re
from pathlib import Path

from bookmaker import Bookmaker

from pool.store import Store
from shares.board.effects import CreditEarned, RefereePaid

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "REWARDS.md"
COLUMNS = ("external", "customer:", "escrow.", "alice", "bob", "operator.", "reserve")


def row_of(books: Bookmaker) -> list[int]:
    """Units in each column of the table."""
    found = dict.fromkeys(COLUMNS, 0)
    for code, units in books.balances().items():
        (column,) = (column for column in COLUMNS if column in code)
        found[column] += units
    return list(found.values())


def test_the_example_is_right_to_the_last_unit(store: Store) -> None:
    """Each of its rows is what the ledger has at that moment."""
    text = DOCUMENT.read_text()
    lines = text[text.index("| | external | carol") :].split("\n\n")[0].splitlines()[2:]
    told = [
        [int(cell.strip().replace("−", "-") or 0) for cell in re.split(r"\|", line)[2:-1]]
        for line in lines
    ]

    books = Bookmaker(store)
    store.recover(books.arrays)
    books.customer(units=5_000)
    found = [row_of(books)]
    job = books.job(blocks=(1_003,), unit=3)
    found.append(row_of(books))
    alices = books.share("alice.r", job, 0, 700, unit=3)
    bobs = books.share("bob.r", job, 700, 1_003, unit=3)
    books.commit(
        CreditEarned(bobs, 0, job, "check", "check", "bob", "r", 11, 33), RefereePaid(job, 10, 30)
    )
    books.settle()
    found.append(row_of(books))
    for lease in (alices, bobs):
        books.judge(lease, "cleared")
    books.settle()
    found.append(row_of(books))
    books.close(job)
    books.settle()
    found.append(row_of(books))

    assert found == told
    assert all(sum(row) == 0 for row in found)

"""What is read from the pool's books: who was found out, how, and what it cost them."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from pool.demo.evidence import read_books
from pool.store import Store, schema
from pool.store.accounts import create_account
from pool.store.escrow import deposit, reserve_job
from shares.money.price import price_of


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path)
    for name in ("ada", "mallory"):
        create_account(store.database, name, "miner", 1.0)
    create_account(store.database, "carol", "customer", 1.0)
    deposit(store.database, "carol", 1_000, 1.0)
    with store.database.write() as connection:
        connection.execute(
            insert(schema.job).values(
                id=1,
                batch="batch_1",
                account="carol",
                endpoint="/v1/embeddings",
                state="in_progress",
                created=1.0,
            )
        )
        price = price_of(100, unit=1, levy_ppm=30_000, fee_ppm=20_000)
        reserve_job(connection, 1, "carol", price, 1.0)
    yield store
    store.close()


@pytest.fixture
def write(store):
    def add(table, **values):
        with store.database.write() as connection:
            connection.execute(insert(table).values(**values))

    return add


@pytest.fixture
def share(write):
    """A share of 10 rows in one part; ``judged`` 5 s after it was issued."""

    def add(number, account, verdict, issued=10.0, reason=None):
        write(
            schema.lease,
            id=number,
            account=account,
            rig="rig1",
            model="m",
            operation="embed",
            segments=b"",
            rows=10,
            work=50,
            difficulty=50,
            issued=issued,
            deadline=99.0,
            state="done",
            verdict=verdict,
            reason=reason,
            judged=issued + 5.0,
        )
        write(
            schema.part,
            lease=number,
            no=0,
            first_row=0,
            rows=10,
            log=1,
            offset=0,
            bytes=0,
            digests=b"",
            digest=b"",
            epoch=1,
            check_rate_ppm=1,
            referee_rate_ppm=1,
            row_work=1,
            why="held",
            held=1,
            price=1,
            works=b"",
            over=b"",
            check_rows=b"",
            referee_rows=b"",
            policy=3,
            at=issued + 1.0,
        )

    return add


@pytest.fixture
def check(write):
    numbers = iter(range(1, 100))

    def add(lease, outcome, checker, row=0):
        write(
            schema.check,
            id=next(numbers),
            by="rig",
            lease=lease,
            part=0,
            job=1,
            block=0,
            row=row,
            at=12.0,
            outcome=outcome,
            checker=checker,
            ended=14.0,
        )

    return add


@pytest.fixture
def books(store):
    def read():
        with store.database.read() as connection:
            return read_books(connection, "batch_1", "mallory")

    return read


def test_a_pool_without_wrong_rows_convicts_nobody(books, share):
    """And its reserved price is all there."""
    share(1, "mallory", "cleared")
    found = books()

    assert found.conviction is None
    assert found.records["mallory"].cleared == 1
    assert found.money.total == found.money.price == 105
    assert found.ledger_error is None
    assert found.settled is False


def test_the_first_rejected_share_tells_how_its_rig_was_found_out(books, share, check, write):
    """Which share, how many rows, by whom, after how many shares and seconds."""
    share(1, "mallory", "cleared", issued=10.0)
    share(2, "mallory", "rejected", issued=20.0, reason="wrong_rows")
    share(3, "mallory", "rejected", issued=30.0, reason="offence")
    check(2, "guilty", "referee", row=1)
    check(2, "guilty", "ada.rig1", row=1)
    check(2, "both_wrong", "ada.rig1", row=2)
    check(2, "matched", "ada.rig1", row=3)
    check(2, "void", "", row=4)
    check(3, "guilty", "referee", row=9)
    write(
        schema.credit,
        lease=2,
        part=0,
        job=1,
        kind="row",
        source="pay",
        account="mallory",
        rig="rig1",
        work=50,
        amount=50,
        state="forfeited",
        at=1.0,
    )
    write(
        schema.forfeit, account="mallory", rig="rig1", number=1, reason="offence", lease=2,
        units=30, at=25.0, posted=True,
    )  # fmt: skip
    found = books()

    assert (found.conviction.share, found.conviction.reason) == (2, "wrong_rows")
    assert (found.conviction.rows, found.conviction.wrong) == (10, 2)
    assert found.conviction.found_by == ("ada.rig1", "referee")
    assert found.conviction.shares_delivered == 2
    assert found.conviction.seconds == 15.0
    assert found.records["mallory"].forfeited == 80
    assert (found.records["mallory"].rows_checked, found.records["mallory"].rows_wrong) == (4, 3)


def test_what_falls_with_the_wrong_share_is_not_taken_for_it(books, share, check):
    """Shares that are judged in the same moment are told apart by their reason."""
    share(1, "mallory", "rejected", reason="offence")
    share(2, "mallory", "rejected", reason="wrong_row")
    check(2, "guilty", "referee")

    assert (books().conviction.share, books().conviction.wrong) == (2, 1)


def test_wrong_checks_count_against_who_made_them(books, share, check):
    """A rig that calls right rows wrong is found out by that."""
    share(1, "ada", "cleared")
    share(2, "mallory", "rejected")
    check(1, "accuser_wrong", "mallory.rig1")
    check(1, "matched", "grace.rig1", row=1)
    found = books()

    assert found.conviction.false_checks == 1
    assert found.conviction.wrong == 0
    assert found.records["ada"].rows_wrong == 0
    assert found.records["ada"].rows_checked == 2


def test_a_ledger_that_lost_money_is_said(books, store):
    """The words are the ledger's own."""
    with store.database.write() as connection:
        connection.execute(schema.balance.update().values(units=schema.balance.c.units + 1))

    assert "the balance of customer:carol" in books().ledger_error

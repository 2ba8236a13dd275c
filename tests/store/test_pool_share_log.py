"""A pool's credits as a share log: what it pays by its own prices, proportional pays again."""

from __future__ import annotations

from bookmaker import Bookmaker

from pool.store.sharelogs import pool_share_log
from shares.money.schemes import Pplns, Pps, Proportional
from shares.money.sharelines import read_lines, write_lines
from shares.money.sharelog import ShareLog


def log_of(books: Bookmaker, *, pseudonyms: bool = False) -> ShareLog:
    with books.store.database.read() as connection:
        return pool_share_log(connection, pseudonyms=pseudonyms)


def paid(log: ShareLog) -> dict[str, int]:
    found = Proportional().replay(log)
    assert found.missing == 0
    return {name: units for name, units in found.pay().items() if units}


def test_a_pool_that_has_done_nothing_has_an_empty_log(books: Bookmaker) -> None:
    log = log_of(books)

    assert (log.shares, log.jobs) == ((), {})


def test_each_judged_credit_is_a_share_and_proportional_pays_what_the_pool_holds(
    books: Bookmaker,
) -> None:
    """At 3 units a row: 60 of Alice cleared, 40 of Mallory rejected, the rest still pending."""
    job = books.job(blocks=(200,), unit=3)
    books.judge(books.share("alice.a", job, 0, 60, unit=3), "cleared")
    books.judge(books.share("mallory.m", job, 60, 100, unit=3), "rejected", forfeit=True)
    books.share("bob.b", job, 100, 120, unit=3)
    books.settle()
    log = log_of(books)

    assert sorted((s.account, s.work, s.units, s.cleared) for s in log.shares) == [
        ("alice", 60, 180, True),
        ("mallory", 40, 120, False),
    ]
    assert log.jobs[str(job)].bounty == 600
    assert log.jobs[str(job)].ended is None
    assert paid(log) == {"alice": 180}
    assert books.balances("held") == {"held:alice.a": 180}
    assert Pps().replay(log).pay() == {"alice": 180, "mallory": 120}


def test_a_job_that_is_over_returns_its_surplus_as_the_ledger_does(books: Bookmaker) -> None:
    job = books.job(blocks=(100,), unit=2)
    books.judge(books.share("alice.a", job, 0, 30, unit=2), "cleared")
    books.at += 50
    books.close(job, "cancelled")
    before = books.balances("customer")["customer:carol"]
    books.settle()
    log = log_of(books)
    found = Proportional().replay(log)

    assert log.jobs[str(job)].ended == books.at
    assert found.returned == 140
    # The ledger gives back the fee of that work, too.
    assert books.balances("customer")["customer:carol"] - before == 140 + 3


def test_checks_that_were_paid_are_work_of_their_job(books: Bookmaker) -> None:
    job = books.job(blocks=(100,), unit=1)
    lease = books.share("alice.a", job, 0, 100)
    books.commit(
        books.credit(lease, "alice.a", job, 3, kind="check", source="check"),
        books.credit(lease, "alice.a", job, 2, kind="hedge", source="reserve"),
    )
    books.judge(lease, "cleared")
    log = log_of(books)

    assert (log.jobs[str(job)].work, log.jobs[str(job)].bounty) == (105, 105)
    assert paid(log) == {"alice": 105}
    assert Pplns(window=10).replay(log).pay() == {"alice": 105}


def test_rows_that_were_paid_twice_make_a_job_larger(books: Bookmaker) -> None:
    """What was cleared and found wrong later is done again, out of what was forfeited."""
    job = books.job(blocks=(100,))
    books.judge(books.share("mallory.m", job, 0, 100), "cleared")
    books.judge(books.share("alice.a", job, 0, 100), "cleared")
    log = log_of(books)

    assert log.jobs[str(job)].work == 200
    assert paid(log) == {"alice": 100, "mallory": 100}


def test_pseudonyms_say_nothing_of_the_names(books: Bookmaker) -> None:
    job = books.job(blocks=(100,))
    for number, name in enumerate(["alice", "bob", "dora", "erik"]):
        first = 10 * number
        books.judge(books.share(f"{name}.r", job, first, first + 10 + number), "cleared")
    log = log_of(books)
    hidden = [log_of(books, pseudonyms=True) for _ in range(40)]

    for one in hidden:
        assert {share.account for share in one.shares} == {"m1", "m2", "m3", "m4"}
        assert sorted(s.work for s in one.shares) == sorted(s.work for s in log.shares)
        text = "".join(write_lines(one))
        assert not any(name in text for name in ("alice", "bob", "dora", "erik"))
    # By chance: the first of the names is not always m1 (equal each time: one in 4^39).
    firsts = {next(s.account for s in one.shares if s.work == 10) for one in hidden}
    assert len(firsts) > 1


def test_the_written_log_is_the_log(books: Bookmaker) -> None:
    job = books.job(blocks=(100,))
    books.judge(books.share("alice.a", job, 0, 60), "cleared")
    log = log_of(books)

    assert read_lines(write_lines(log)) == log

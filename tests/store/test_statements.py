"""Statements add up: to the credits, to the ledger, and to what receipts prove."""

from __future__ import annotations

from datetime import date

import pytest
from bookmaker import Bookmaker
from sqlalchemy import update

from pool.settlement import SettlementPolicy
from pool.store import Store, schema
from pool.store.credits import credits_after
from pool.store.payouts import open_round, payouts_of, reserve, step
from pool.store.releases import ReleasePolicy
from pool.store.statements import (
    DAY,
    MinerStatement,
    Span,
    _first_credit,
    customer_lines,
    miner_statement,
    span_of,
)
from shares.blocks import Kind, Segment
from shares.board.effects import HeldForfeited, ShareJudged
from shares.receipts import check_pay, pay_from_json

ALL = Span(0.0, 1e9)


def statement(store: Store, account: str = "alice", span: Span = ALL) -> MinerStatement:
    with store.database.read() as connection:
        return miner_statement(connection, account, span)


@pytest.fixture
def worked(store: Store, books: Bookmaker) -> Bookmaker:
    """Alice works on two days for two jobs; a share is rejected, one waits, some pay is lost."""
    books.policy = SettlementPolicy(
        release=ReleasePolicy(hold_seconds=DAY, minimum_rows=5, price=1)
    )
    one, two = books.job(blocks=(200,)), books.job(blocks=(100,), unit=3)
    books.trust("alice.a")
    for at, job, start, verdict in (
        (1_000.0, one, 0, "cleared"),
        (2_000.0, one, 50, "rejected"),
        (DAY + 10.0, one, 100, "cleared"),
        (DAY + 20.0, two, 0, "cleared"),
        (DAY + 30.0, two, 50, "accepted"),
    ):
        books.at = at
        lease = books.share("alice.a", job, start, start + 50, unit=3 if job == two else 1)
        if verdict == "cleared":
            # A check, paid from the levy with the verdict.
            check = books.lease("alice.a", Segment(job, 0, start, start + 1, Kind.CHECK))
            books.commit(
                books.credit(check, "alice.a", job, 1, kind="check", source="check"),
                ShareJudged(check, "cleared", "test", False, at),
            )
        if verdict != "accepted":
            books.judge(lease, verdict)
    books.commit(HeldForfeited("alice", "a", 20, 1, "wrong_row", 1, books.at))
    books.settle()
    return books


def test_days_and_jobs_have_a_line_each(store: Store, worked: Bookmaker) -> None:
    lines = statement(store).lines
    assert [(line.day, line.job) for line in lines] == [
        ("1970-01-01", 1),
        ("1970-01-02", 1),
        ("1970-01-02", 2),
    ]
    first, second, third = lines
    assert (first.shares, first.shares_cleared, first.shares_rejected) == (3, 2, 1)
    assert (first.work, first.work_cleared, first.check_work) == (100, 50, 1)
    assert (first.cleared, first.rejected, first.pending) == (51, 50, 0)
    assert first.fee == 1  # 2 % of 50, the fee of 200 being 4
    assert (second.shares, second.cleared) == (2, 51)
    assert (third.shares, third.shares_cleared, third.shares_open) == (3, 2, 1)
    assert (third.price, third.cleared, third.pending) == (3, 151, 150)


def test_a_statement_equals_what_verify_makes_of_the_credits(
    store: Store, worked: Bookmaker
) -> None:
    """The same sums by state as ``inferpool verify --pay`` prints."""
    with store.database.read() as connection:
        found, following = credits_after(connection, "alice", 0, 1_000)
    assert following is None
    failures: list[str] = []
    sums = check_pay([], [pay_from_json(one) for one in found], failures)
    totals = statement(store).totals()
    assert {state: totals[state] for state in sums} == sums
    assert set(sums) == {"cleared", "pending", "rejected"}


def test_every_unit_that_was_earned_is_somewhere(store: Store, worked: Bookmaker) -> None:
    """earned + given back - forfeited = pending + held + available + in flight + paid."""
    worked.at += 3 * DAY
    worked.settle()
    with store.database.write() as connection:
        number = open_round(connection, worked.at)
        reserve(connection, number, "alice", 30, "text", "x", worked.at)
        (payout,), _ = payouts_of(connection, "alice", 0, 10)
        for state in ("submitting", "submitted", "finalised"):
            moved = step(connection, payout, state, worked.at)
            assert moved is not None
            payout = moved
    found = statement(store)
    totals = found.totals()
    moved_units = {one.kind: 0 for one in found.movements}
    for one in found.movements:
        moved_units[one.kind] += one.units
    earned = totals["pending"] + totals["cleared"]
    assert moved_units["held_forfeited"] == -20
    assert found.now["paid"] == moved_units["payout_finalised"] == 30
    assert moved_units["released"] == found.now["available"] + 30
    assert earned + moved_units["held_forfeited"] == sum(found.now.values())
    assert found.now["not_yet_posted"] == 0
    assert statement(store, "bob").totals()["cleared"] == 0


def test_only_the_days_that_are_asked_for(store: Store, worked: Bookmaker) -> None:
    second = statement(store, span=Span(DAY, 2 * DAY))
    assert {line.day for line in second.lines} == {"1970-01-02"}
    assert {one.day for one in second.movements} <= {"1970-01-02"}
    assert statement(store, span=Span(2 * DAY, 3 * DAY)).lines == []


def test_the_first_credit_of_a_day_is_found_without_reading_all(
    store: Store, books: Bookmaker
) -> None:
    job = books.job(blocks=(100,))
    for number in range(40):
        books.at = 10_000.0 * number
        books.share(f"{'alice' if number % 3 else 'bob'}.a", job, number, number + 1)
    with store.database.read() as connection:
        for at in (0.0, 45_000.0, 200_000.0, 1e9):
            found = _first_credit(connection, "alice", at)
            later = statement(store, span=Span(at, 2e9))
            assert sum(line.shares for line in later.lines) == sum(
                n % 3 != 0 and 10_000.0 * n >= at for n in range(40)
            )
            assert found >= min(39, int((at - 3_600) // 10_000) - 3), "few are read in vain"
        assert _first_credit(connection, "nobody", 0.0) == 0


def test_a_day_costs_the_same_however_much_came_before_and_after(
    store: Store, books: Bookmaker
) -> None:
    """Steps of SQLite for one day's statement do not grow with the account's other days."""

    def steps(*, days: int, day: int) -> int:
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        with store.database.read() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.set_progress_handler(count, 100)
            found = miner_statement(connection, "alice", Span(day * DAY, (day + 1) * DAY))
            raw.set_progress_handler(None, 0)
        assert [line.work for line in found.lines] == [5], f"day {day} of {days}"
        return counted

    job = books.job(blocks=(5_000,))
    books.at = 10.0
    few_days, many_days, row = 10, 600, 0
    taken: dict[int, int] = {}
    for days in (few_days, many_days):
        while books.at < days * DAY:
            lease = books.lease("alice.a", Segment(job, 0, row, row + 5, Kind.ROW))
            books.commit(
                *(books.credit(lease, "alice.a", job, 1, part=part) for part in range(5)),
                ShareJudged(lease, "cleared", "test", False, books.at),
            )
            with store.database.write() as connection:
                credit = schema.credit
                connection.execute(
                    update(credit).where(credit.c.lease == lease).values(at=books.at)
                )
            row += 5
            books.at += DAY
        books.settle()
        taken[days] = max(steps(days=days, day=day) for day in (0, days // 2, days - 1))
    assert taken[many_days] < 3 * taken[few_days], taken


def test_a_customer_sees_each_entry_and_the_balance_after_it(
    store: Store, books: Bookmaker
) -> None:
    job = books.job(blocks=(100,))
    books.at += DAY
    books.judge(books.share("alice.a", job, 0, 60), "cleared")
    books.settle()
    books.close(job, "cancelled")
    books.settle()
    with store.database.read() as connection:
        lines = list(customer_lines(connection, "carol", ALL))
        later = list(customer_lines(connection, "carol", Span(DAY, 1e9)))
    assert [(line.kind, line.job) for line in lines] == [
        ("deposit", None),
        ("reserved", job),
        ("completed", job),
    ]
    assert lines[-1].balance == sum(line.units for line in lines)
    assert (lines[-1].work, lines[-1].work_done) == (100, 60)
    assert later == lines[2:], "the balance before is not forgotten"


def test_spans() -> None:
    now = 20_000 * DAY + 5.0
    default = span_of(None, None, now)
    assert (default.first, default.end) == (19_971 * DAY, 20_001 * DAY)
    day = span_of(date(1970, 1, 2), date(1970, 1, 3), now)
    assert day == Span(DAY, 2 * DAY)
    with pytest.raises(ValueError, match="is not before"):
        span_of(date(2026, 1, 2), date(2026, 1, 2), now)
    with pytest.raises(ValueError, match="more than 366 days"):
        span_of(date(2024, 1, 1), date(2026, 1, 2), now)

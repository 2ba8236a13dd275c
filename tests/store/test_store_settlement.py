"""Money, event by event: the table of postings, and that every unit is somewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bookmaker import Bookmaker
from sqlalchemy import select

from pool.accounts import AccountError
from pool.closing import close_account
from pool.settlement import SettlementPolicy
from pool.store import schema
from pool.store.accounts import all_accounts, create_account
from pool.store.closedholds import mark_clean
from pool.store.escrow import InsufficientQuotaError, deposit, reserve_job, statement_of, statements
from pool.store.releases import Release, ReleasePolicy
from shares.board.effects import BlockCleared, HeldForfeited, RefereePaid, RowRefuted
from shares.money.price import price_of


def test_a_price_is_set_aside_at_once(books: Bookmaker) -> None:
    """customer → escrow.pay, escrow.check, escrow.fee, in the transaction that accepts the job."""
    job = books.job(blocks=(100,))

    assert books.balances("escrow") == {
        f"escrow.pay:{job}": 100,
        f"escrow.check:{job}": 3,
        f"escrow.fee:{job}": 2,
    }
    assert books.balances("customer") == {"customer:carol": 1_000_000 - 105}


def test_too_little_balance_refuses_a_job_and_changes_nothing(books: Bookmaker) -> None:
    before = books.balances()
    price = price_of(1_000_000, unit=1, levy_ppm=30_000, fee_ppm=20_000)

    with (
        books.store.database.write() as connection,
        pytest.raises(InsufficientQuotaError, match=r"costs 1050000 units .* 1000000") as caught,
    ):
        reserve_job(connection, 77, "carol", price, books.at)

    assert (caught.value.needed, caught.value.available) == (1_050_000, 1_000_000)
    assert books.balances() == before


def test_accepted_parts_are_pending_and_cleared_ones_held(books: Bookmaker) -> None:
    """escrow.pay → pending; on the verdict pending → held, and the fee's part to the operator."""
    job = books.job(blocks=(100,))
    lease = books.share("alice.a", job, 0, 50)
    books.settle()
    assert books.balances("pending") == {"pending:alice.a": 50}

    books.judge(lease, "cleared")
    books.settle()

    assert books.balances("pending") == {}
    assert books.balances("held") == {"held:alice.a": 50}
    assert books.balances("operator") == {"operator.fee": 1}
    assert books.balances(f"escrow.pay:{job}") == {f"escrow.pay:{job}": 50}


def test_a_rejected_share_gives_its_pay_back(books: Bookmaker) -> None:
    job = books.job(blocks=(100,))
    lease = books.share("alice.a", job, 0, 50)
    books.settle()
    books.judge(lease, "rejected")
    books.settle()

    assert books.balances("pending") == {}
    assert books.balances(f"escrow.pay:{job}") == {f"escrow.pay:{job}": 100}


@pytest.mark.parametrize("settle_between", [False, True])
@pytest.mark.parametrize("forfeit", [False, True])
def test_rows_done_again_never_overdraw_a_job(
    books: Bookmaker, settle_between: bool, forfeit: bool
) -> None:
    """All of a job is done by a cheat, then by an honest rig: the escrow pays for it once.

    With a verdict that forfeits, the forfeits pay for the second time.
    """
    job = books.job(blocks=(100,))
    wrong = books.share("mallory.m", job, 0, 100)
    if settle_between:
        books.settle()
    books.judge(wrong, "rejected", forfeit=forfeit)
    again = books.share("alice.a", job, 0, 100)
    settled = books.settle()
    books.judge(again, "cleared")
    books.settle()

    assert settled.unpaid == ()
    assert books.balances("held") == {"held:alice.a": 100}
    assert books.balances("escrow.pay") == {}
    assert books.balances("forfeits") == {}


def test_rows_forfeited_twice_are_still_paid_once(books: Bookmaker) -> None:
    """Two cheats one after the other, with nothing posted in between."""
    job = books.job(blocks=(100,))
    first = books.share("mallory.m", job, 0, 100)
    books.settle()
    books.judge(first, "rejected", forfeit=True)
    second = books.share("oscar.o", job, 0, 100)
    books.judge(second, "rejected", forfeit=True)
    last = books.share("alice.a", job, 0, 100)
    books.judge(last, "cleared")
    books.settle()

    assert books.balances("held") == {"held:alice.a": 100}


def test_an_offence_takes_held_pay_to_forfeits_and_then_to_the_reserve(books: Bookmaker) -> None:
    job = books.job(blocks=(100, 100))
    good = books.share("mallory.m", job, 0, 100)
    books.judge(good, "cleared")
    bad = books.share("mallory.m", job, 0, 100, block=1)
    books.judge(bad, "rejected", forfeit=True)
    books.commit(HeldForfeited("mallory", "m", 100, 1, "offence", bad, books.at))
    books.settle()
    assert books.balances("forfeits") == {"forfeits": 100}
    assert books.balances("held") == {}

    again = books.share("alice.a", job, 0, 100, block=1)
    books.judge(again, "cleared")
    books.close(job)
    settled = books.settle()

    assert books.balances("forfeits") == {}
    assert books.balances("reserve") == {"reserve": 106}
    assert settled.reserve_change == 106
    table = books.table(job)
    assert (table.held, table.reserve, table.operator, table.refund) == (100, 106, 4, 0)


def test_held_pay_that_was_released_first_is_not_forfeited(books: Bookmaker) -> None:
    """A release and an offence can cross: what is left of the hold is forfeited."""
    job = books.job(blocks=(100,))
    books.judge(books.share("mallory.m", job, 0, 100), "cleared")
    books.commit(HeldForfeited("mallory", "m", 150, 1, "offence", 1, books.at))
    books.settle()

    assert books.balances("forfeits") == {"forfeits": 100}


def test_a_check_is_paid_from_the_levy_or_the_reserve(books: Bookmaker) -> None:
    deposit(books.store.database, "reserve", 500, books.at)
    job = books.job(blocks=(100,))
    lease = books.share("alice.a", job, 0, 10)
    checker = books.share("bob.b", job, 10, 20)
    books.commit(
        books.credit(checker, "bob.b", job, 2, kind="check", source="check"),
        books.credit(checker, "bob.b", job, 30, kind="check", source="reserve"),
    )
    books.settle()
    assert books.balances("escrow.check") == {f"escrow.check:{job}": 1}
    assert books.balances("reserve") == {"reserve": 470}

    for one in (lease, checker):
        books.judge(one, "cleared")
    books.settle()

    assert books.balances("held") == {"held:alice.a": 10, "held:bob.b": 42}


def test_a_credit_for_a_judged_share_follows_its_verdict(books: Bookmaker) -> None:
    """A check that ends after its checker's share was cleared is not pending for ever."""
    job = books.job(blocks=(100,))
    checker = books.share("bob.b", job, 0, 10)
    books.judge(checker, "cleared")
    books.commit(books.credit(checker, "bob.b", job, 3, kind="check", source="check"))
    books.settle()

    assert books.balances("held") == {"held:bob.b": 13}


def test_a_completed_job_leaves_its_escrows_empty(books: Bookmaker) -> None:
    """rest of pay and fee → customer, rest of the levy → reserve, referee's cost capped."""
    job = books.job(blocks=(1_000,), levy_ppm=100_000)
    for start in (0, 500):
        books.judge(books.share("alice.a", job, start, start + 500), "cleared")
    books.commit(RefereePaid(job, 90, 90), BlockCleared(job, 0))
    books.close(job)
    settled = books.settle()

    assert settled.jobs == (job,)
    assert settled.reserve_change == 80
    assert books.balances("escrow") == {}
    assert books.balances("operator") == {"operator.cost": 20, "operator.fee": 20}
    table = books.table(job)
    assert table.price == 1_120
    assert (table.held, table.operator, table.reserve, table.refund) == (1_000, 40, 80, 0)
    assert table.accounts["alice"].work == 1_000
    assert table.accounts["alice"].pay == 1_000


def test_who_was_convicted_pays_for_the_referees_runs(books: Bookmaker) -> None:
    """Of the referee's 20 units the runs on two false rows are made up for out of forfeits."""
    job = books.job(blocks=(1_000,), levy_ppm=100_000)
    mallory = books.share("mallory.m", job, 0, 100)
    books.trust("mallory.m", held=0)
    other = books.job(blocks=(50,))
    books.judge(books.share("mallory.m", other, 0, 50), "cleared")
    books.settle()
    books.commit(
        RefereePaid(job, 20, 20),
        *(RowRefuted(mallory, job, 0, row, bytes(16), b"x" * 16, True, 1.0) for row in (3, 4)),
        HeldForfeited("mallory", "m", 50, 1, "offence", mallory, books.at),
    )
    books.judge(mallory, "rejected", forfeit=True)
    books.judge(books.share("alice.a", job, 0, 1_000), "cleared")
    books.close(job)
    books.settle()

    with books.store.database.read() as connection:
        entry = schema.entry.c
        moved = {
            row.account_code: row.amount
            for row in connection.execute(
                select(entry.account_code, entry.amount).where(entry.kind == "referee.guilty")
            )
        }
    assert moved == {"forfeits": -2, f"escrow.check:{job}": 2}
    assert books.balances("operator.cost") == {"operator.cost": 20}
    assert books.balances("forfeits") == {}
    assert books.table(job).total == 1_120


def test_a_delivered_row_that_was_wrong_is_refunded_once(books: Bookmaker) -> None:
    """Out of the fine of whoever was wrong, and before the rest of it goes to the reserve."""
    job = books.job(blocks=(100,))
    lease = books.share("alice.a", job, 0, 100)
    books.trust("alice.a")
    books.judge(lease, "cleared")
    books.settle()
    before = books.balances("customer")["customer:carol"]
    for row in (7, 9):
        books.commit(
            RowRefuted(lease, job, 0, row, bytes(16), b"x" * 16, False, books.at),
            HeldForfeited("alice", "a", 30, row, "wrong_row", lease, books.at),
        )
        books.settle()
    assert books.balances("customer")["customer:carol"] == before + 2
    assert books.balances("forfeits") == {"forfeits": 58}
    assert books.table(job).refund == 2
    books.close(job)
    books.settle()
    assert books.balances("forfeits") == {}
    assert books.table(job).total == 105


def test_a_rejected_row_was_not_delivered_and_is_not_refunded(books: Bookmaker) -> None:
    job = books.job(blocks=(100,))
    lease = books.share("alice.a", job, 0, 100)
    books.trust("alice.a")
    books.commit(RowRefuted(lease, job, 0, 7, bytes(16), b"x" * 16, False, books.at))
    books.judge(lease, "rejected")
    books.settle()
    with books.store.database.read() as connection:
        assert "refunded" not in set(connection.scalars(select(schema.entry.c.kind)))


def test_a_cancelled_job_pays_what_was_done_and_returns_the_rest(books: Bookmaker) -> None:
    job = books.job(blocks=(1_000,))
    books.judge(books.share("alice.a", job, 0, 250), "cleared")
    books.close(job, "cancelled")
    books.settle()

    table = books.table(job)
    assert (table.held, table.refund, table.reserve) == (250, 750 + 15, 30)
    assert table.operator == 5
    assert table.escrow == 0


def test_assurance_of_work_that_was_not_done_comes_back(books: Bookmaker) -> None:
    """A quarter of the rows was done and checked: the assurance of the others was bought in vain.

    What the checks of that quarter left goes to the reserve, as the ordinary levy does.
    """
    job = books.job(blocks=(1_000,), assurance_ppm=1_000_000)
    books.judge(books.share("alice.a", job, 0, 250), "cleared")
    checker = books.share("bob.b", job, 250, 250)
    books.commit(books.credit(checker, "bob.b", job, 240, kind="check", source="check"))
    books.judge(checker, "cleared")
    books.close(job, "cancelled")
    books.settle()

    table = books.table(job)
    assert table.price == 1_000 + 1_030 + 20
    assert table.refund == 750 + 15 + 750
    assert table.reserve == 30 + 250 - 240
    assert table.escrow == 0


def test_no_assurance_comes_back_of_a_job_that_is_done(books: Bookmaker) -> None:
    job = books.job(blocks=(1_000,), assurance_ppm=500_000)
    books.judge(books.share("alice.a", job, 0, 1_000), "cleared")
    books.commit(BlockCleared(job, 0))
    books.close(job)
    books.settle()

    table = books.table(job)
    assert (table.refund, table.reserve) == (0, 530)


def test_a_job_that_failed_before_any_work_is_returned(books: Bookmaker) -> None:
    """All of it: there was nothing to check, so the levy comes back too."""
    job = books.job(blocks=(100,))
    with books.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE job SET state='failed' WHERE id=?", (job,))
    books.settle()

    assert books.balances("escrow") == {}
    assert books.balances("customer") == {"customer:carol": 1_000_000}
    assert books.table(job).refund == 105


def test_a_closed_job_waits_for_its_last_verdict(books: Bookmaker) -> None:
    job = books.job(blocks=(100,))
    lease = books.share("alice.a", job, 0, 100)
    books.close(job)
    assert books.settle().jobs == ()

    books.judge(lease, "cleared")
    assert books.settle().jobs == (job,)


def test_settling_again_changes_nothing(books: Bookmaker) -> None:
    job = books.job(blocks=(100,))
    books.judge(books.share("alice.a", job, 0, 100), "cleared")
    books.close(job)
    books.settle()
    before = books.balances()
    again = books.settle()

    assert books.balances() == before
    assert (again.credits, again.jobs, again.reserve_change) == (0, (), 0)


def test_a_long_backlog_is_posted_in_batches(
    books: Bookmaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.settlement.BATCH", 3)
    job = books.job(blocks=(100,))
    for start in range(0, 100, 10):
        books.judge(books.share("mallory.m", job, start, start + 10), "rejected", forfeit=True)
        books.judge(books.share("alice.a", job, start, start + 10), "cleared")
    books.close(job)
    settled = books.settle()

    assert settled.credits == 20
    assert settled.jobs == (job,)
    assert books.balances("held") == {"held:alice.a": 100}


def test_a_credit_beyond_its_source_waits_and_is_reported(books: Bookmaker) -> None:
    """A board that overspends cannot make money; its job is not settled over it."""
    job = books.job(blocks=(100,))
    lease = books.share("alice.a", job, 0, 100)
    books.commit(books.credit(lease, "alice.a", job, 4, kind="check", source="check"))
    books.judge(lease, "cleared")
    books.close(job)
    settled = books.settle()

    assert len(settled.unpaid) == 1
    assert settled.jobs == ()
    assert books.balances("held") == {"held:alice.a": 100}


def test_seeding_the_reserve_is_told_once(books: Bookmaker) -> None:
    deposit(books.store.database, "reserve", 500, books.at)

    assert books.settle().reserve_change == 500
    assert books.settle().reserve_change == 0


def test_what_the_board_spent_itself_is_not_told_to_it(books: Bookmaker) -> None:
    deposit(books.store.database, "reserve", 500, books.at)
    books.settle()
    job = books.job(blocks=(100,))
    lease = books.share("bob.b", job, 0, 10)
    books.commit(books.credit(lease, "bob.b", job, 30, kind="check", source="reserve"))

    assert books.settle().reserve_change == 0
    books.judge(lease, "rejected")
    assert books.settle().reserve_change == 0
    assert books.balances("reserve") == {"reserve": 500}


# ── holds ─────────────────────────────────────────────────────────────────────


def with_hold(books: Bookmaker, *, rows: int, seconds: float = 100.0) -> None:
    release = ReleasePolicy(hold_seconds=seconds, minimum_rows=rows, price=1, every_seconds=10.0)
    books.policy = replace(SettlementPolicy(), release=release)


def test_held_pay_above_the_minimum_is_released_after_its_time(books: Bookmaker) -> None:
    with_hold(books, rows=30)
    job = books.job(blocks=(100,))
    books.judge(books.share("alice.a", job, 0, 60), "cleared")
    books.trust("alice.a", held=60, row_work=1_000)
    assert books.settle().released == ()
    books.at += 60
    books.judge(books.share("alice.a", job, 60, 80), "cleared")
    books.at += 60
    settled = books.settle()

    assert settled.released == (Release("alice", "a", 50),)
    assert books.balances("held") == {"held:alice.a": 30}
    assert books.balances("available") == {"available:alice": 50}
    table = books.table(job)
    assert (table.held, table.available) == (30, 50)


def test_pay_within_its_hold_stays(books: Bookmaker) -> None:
    with_hold(books, rows=0)
    job = books.job(blocks=(100,))
    books.trust("alice.a")
    books.judge(books.share("alice.a", job, 0, 60), "cleared")
    books.at += 60
    books.judge(books.share("alice.a", job, 60, 100), "cleared")
    books.at += 60

    assert books.settle().released == (Release("alice", "a", 60),)


def test_the_minimum_hold_is_never_released_while_an_account_is_open(books: Bookmaker) -> None:
    with_hold(books, rows=1_000)
    job = books.job(blocks=(100,))
    books.trust("alice.a")
    books.judge(books.share("alice.a", job, 0, 100), "cleared")
    books.at += 1_000_000

    assert books.settle().released == ()


def found_right(books: Bookmaker) -> None:
    """What alice's rig holds was computed again."""
    with books.store.database.write() as connection:
        mark_clean(connection, "alice", "a", 60, books.at)


def test_a_closed_account_is_held_as_long_as_any_and_then_released_whole(books: Bookmaker) -> None:
    """Closing is no way around the time in which what was done may still prove false."""
    with_hold(books, rows=1_000)
    create_account(books.store.database, "alice", "miner", books.at)
    job = books.job(blocks=(100,))
    lease = books.share("alice.a", job, 0, 60)
    with pytest.raises(AccountError, match="without a verdict"):
        close_account(books.store.database, "alice", books.policy, books.at)
    books.judge(lease, "cleared")
    books.trust("alice.a", held=60, row_work=1_000)
    books.at += 90
    assert close_account(books.store.database, "alice", books.policy, books.at) == 60
    assert books.settle().released == ()
    books.at += 99
    assert books.settle().released == ()
    books.at += 11
    assert books.settle().released == (), "not yet computed again"
    found_right(books)
    books.at += 11

    assert books.settle().released == (Release("alice", "a", 60),)
    assert books.balances("held") == {}
    assert books.balances("available") == {"available:alice": 60}
    with pytest.raises(AccountError, match="is closed"):
        close_account(books.store.database, "alice", books.policy, books.at)


def test_a_share_that_was_leased_while_its_account_was_closed_is_held_and_paid(
    books: Bookmaker,
) -> None:
    """The pool saw the closing a moment later: the share's pay goes the way of any other."""
    with_hold(books, rows=1_000)
    create_account(books.store.database, "alice", "miner", books.at)
    job = books.job(blocks=(100,))
    close_account(books.store.database, "alice", books.policy, books.at)
    lease = books.share("alice.a", job, 0, 60)
    books.at += 50
    books.judge(lease, "cleared")
    books.trust("alice.a", held=60, row_work=1_000)
    books.at += 60
    found_right(books)
    assert books.settle().released == (), "closed long ago, cleared within its hold"
    books.at += 50

    assert books.settle().released == (Release("alice", "a", 60),)


def test_a_customer_with_open_jobs_cannot_be_closed(books: Bookmaker) -> None:
    job = books.job(blocks=(100,))
    with pytest.raises(AccountError, match="1 jobs that are not settled"):
        close_account(books.store.database, "carol", books.policy, books.at)
    books.close(job, "cancelled")
    close_account(books.store.database, "carol", books.policy, books.at)


def test_statements_say_what_everybody_has(books: Bookmaker) -> None:
    create_account(books.store.database, "alice", "miner", books.at)
    create_account(books.store.database, "alice2", "miner", books.at)
    job = books.job(blocks=(100,))
    books.judge(books.share("alice.a", job, 0, 40), "cleared")
    books.share("alice.b", job, 40, 50)
    books.share("alice2.a", job, 50, 55)
    books.settle()
    with books.store.database.read() as connection:
        carol, alice, alice2 = statements(connection)
        each = [statement_of(connection, one) for one in all_accounts(connection)]
    assert each == [carol, alice, alice2]

    assert (carol.balance, carol.reserved) == (1_000_000 - 105, 105 - 55)
    assert (alice.pending, alice.held) == (10, 40)
    assert (alice2.pending, alice2.held) == (5, 0)

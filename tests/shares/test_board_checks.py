"""Checks: drawn after acceptance, computed by other accounts or the referee, within budgets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from driver import KEY, House, PlayedRig

from shares.blocks import Kind
from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev
from shares.trust.sampling import REFEREE, draw

# Everybody is established, every row won is drawn for a rig, few for the referee.
CHECKED = Policy(
    probation_shares=0,
    min_difficulty=100,
    initial_difficulty=2_000,
    check_floor_ppm=1_000_000,
    referee_floor_ppm=1_000,
)


def _two(house: House, *, rows: int = 20, budget: int | None = None) -> tuple[PlayedRig, PlayedRig]:
    """Anna, who computes a job of 20 rows, and Ben, who may check it."""
    house.established("anna")
    house.established("ben")
    anna = house.connect("anna", credit=2)
    ben = house.connect("ben", credit=2)
    house.open_job(rows=rows, check_budget=rows * 100 if budget is None else budget)
    return anna, ben


def _checks_in(house: House, rig: PlayedRig) -> list[tuple[int, int, int]]:
    return [
        key
        for lease in rig.leases.values()
        for key, kind in zip(
            lease.keys, (s.kind for s in lease.segments for _ in range(s.rows)), strict=True
        )
        if kind is Kind.CHECK
    ]


def test_without_an_epoch_everything_is_drawn(of) -> None:
    house = House(epoch=False)
    house.established("anna")
    house.open_job(rows=20)
    rig = house.connect("anna")
    (part,) = of(house.submit(rig), fx.PartAccepted)

    assert part.check_rate_ppm == part.referee_rate_ppm == 1_000_000
    assert len(part.referee_rows) == part.rows


def test_a_part_stores_what_its_draw_needs(of) -> None:
    """The draw is made again from the record, the rows' work and the epoch's key alone."""
    house = House()
    house.established("anna", held=50 * 100)
    works = [100 + 40 * (row % 7) for row in range(100)]
    house.open_job(rows=100, work=works)
    rig = house.connect("anna")
    lease = next(iter(rig.leases.values()))
    (part,) = of(house.submit(rig), fx.PartAccepted)
    mine = np.array([works[row] for _, _, row in lease.keys])
    again = draw(KEY, REFEREE, part.lease, 0, part.digest, mine, 40_000, part.row_work)

    assert (part.epoch, part.policy) == (1, 3)
    assert part.check_rate_ppm == part.referee_rate_ppm == 40_000
    assert part.row_work == 100_000, "what the rig was known for before this part"
    assert part.referee_rows == again
    assert again


def test_an_established_rig_is_sampled_near_its_lower_rate(of) -> None:
    """20,000 rows of a rig with much to lose: about 1 % by rigs and 0.1 % by the referee."""
    house = House(Policy(initial_difficulty=100_000), checked=False)
    house.established("anna")
    house.established("ben")
    house.open_job(rows=20_000, check_budget=10**9)
    anna = house.connect("anna")
    for _ in range(200):
        house.at += 1
        while anna.leases:
            house.submit(anna)
        house.tick(0)
        if house.jobs[1].closed:
            break
    by = [drawn.by for drawn in house.drawn.values()]

    house.assert_complete()
    assert abs(by.count("rig") - 200) < 60
    assert abs(by.count("referee") - 20) < 18


def test_with_one_account_online_the_referee_checks(of) -> None:
    house = House(CHECKED)
    house.established("anna")
    house.open_job(rows=20)
    anna = house.connect("anna")
    house.connect("anna", "second")
    house.at += 1
    house.submit(anna)

    assert (
        sorted(set(house.referee_rows))
        == [(1, 0, row) for row in range(20)][: len(set(house.referee_rows))]
    )
    assert {ended.checker for ended in house.ended.values()} == {"referee"}
    house.work(anna, *house.rigs.values())
    house.assert_complete()


def test_another_account_checks_and_is_paid_for_it(of) -> None:
    """The check rows come in a share, match, clear the share at once, and earn their price."""
    house = House(CHECKED)
    anna, ben = _two(house, rows=200)
    house.at += 1
    lease = next(iter(anna.leases))
    house.submit(anna, lease)
    house.at += 1
    house.submit(ben)
    checks = _checks_in(house, ben)
    assert checks

    while lease and house.shares[lease].verdict == "accepted":
        house.at += 1
        house.submit(ben)
        house.submit(anna)
    share = house.shares[lease]
    assert (share.verdict, share.reason) == ("cleared", "sampled")
    paid = [c for _, c in house.credits() if c.kind == "check" and c.account == "ben"]
    assert paid
    assert {c.source for c in paid} == {"check"}
    assert all(c.amount == c.work for c in paid)


def test_a_rig_never_checks_its_own_account_nor_its_own_job() -> None:
    house = House(CHECKED)
    house.established("anna", "one")
    house.established("anna", "two")
    house.established("customer", "rig")
    one = house.connect("anna", "one")
    two = house.connect("anna", "two")
    mine = house.connect("customer", "rig")
    house.open_job(rows=100, check_budget=10**6)
    house.work(one, two, mine)

    by_rig = [ended for ended in house.ended.values() if ended.checker != "referee"]
    assert by_rig, "anna's rigs check the customer's rig"
    for ended in by_rig:
        target = house.shares[house.drawn[ended.check].lease].issued.account
        assert (target, ended.checker[:4]) == ("customer", "anna")
    house.assert_complete()


def test_rigs_on_probation_do_not_check() -> None:
    house = House(Policy(min_difficulty=100, initial_difficulty=2_000, check_floor_ppm=1_000_000))
    house.established("anna")
    anna = house.connect("anna")
    new = house.connect("new")
    house.open_job(rows=60, check_budget=10**6)
    house.at += 1
    house.submit(anna)

    assert not _checks_in(house, new)
    assert {ended.checker for ended in house.ended.values()} == {"referee"}


def test_checks_that_wait_too_long_go_to_the_referee(of) -> None:
    """Ben is there and busy; after the patience the referee takes the rows."""
    house = House(CHECKED, referee=False)
    anna, ben = _two(house, rows=200)
    house.at += 1
    house.submit(anna)
    due = house.board.totals().checks_due
    assert due > 0
    house.disconnect(ben)
    assert not of(house.tick(10), fx.RefereeWanted)

    effects = house.tick(11)
    assert sum(len(e.rows) for e in of(effects, fx.RefereeWanted)) >= due
    house.answer()
    assert house.board.totals().checks_due == 0


def test_a_row_drawn_twice_is_computed_by_the_referee_once() -> None:
    """A newcomer's rows are drawn for both purposes: one check, one computation."""
    house = House()
    house.open_job(rows=100)
    anna = house.connect("anna")
    house.established("ben")
    anna = house.connect("anna")
    house.connect("ben")
    house.submit(anna)
    part = next(share.parts[0] for share in house.shares.values() if share.parts)

    assert set(part.check_rows) == set(part.referee_rows) == set(range(part.rows))
    assert len(house.referee_rows) == len(set(house.referee_rows)) == part.rows
    assert len(house.drawn) == part.rows
    assert {drawn.by for drawn in house.drawn.values()} == {"referee"}


def test_without_a_budget_the_reserve_pays_and_then_the_referee_checks() -> None:
    """500 units in the reserve are five rows; no credit ever exceeds it."""
    house = House(CHECKED, reserve=500)
    anna, ben = _two(house, rows=200, budget=0)
    house.work(anna, ben)
    house.assert_complete()
    paid = [c for _, c in house.credits() if c.kind in ("check", "hedge")]

    assert sum(c.amount for c in paid) <= 500
    assert {c.source for c in paid} == {"reserve"}
    assert "referee" in {ended.checker for ended in house.ended.values()}


def test_the_referee_is_paid_its_standard_price_up_to_the_cap() -> None:
    """Half of the budget at most; what it does beyond that is free."""
    house = House(Policy(initial_difficulty=2_000, min_difficulty=100))
    house.open_job(rows=200, check_budget=1_000)
    anna = house.connect("anna")
    house.work(anna)

    assert sum(paid.amount for paid in house.referee_paid) == 500
    assert house.referee_paid[0].amount <= house.referee_paid[0].work


def test_units_set_aside_come_back_when_the_checker_fails() -> None:
    house = House(CHECKED, referee=False)
    anna, ben = _two(house, rows=200, budget=20_000)
    house.at += 1
    house.submit(anna)
    house.at += 1
    house.submit(ben)
    assert _checks_in(house, ben)
    credited = sum(c.amount for _, c in house.credits(live=False) if c.source == "check")
    assert house.board.jobs()[1].check_left < 20_000 - credited

    assert ben.session is not None
    for lease in list(ben.leases):
        del ben.leases[lease]
        house.handle(
            ev.LeaseReleased(
                at=house.at, session=ben.session, request=1, lease=lease, reason="stopping"
            )
        )
    assert house.board.jobs()[1].check_left == 20_000 - credited


def test_units_of_a_check_come_from_one_pot_and_never_run_out_twice() -> None:
    """A budget of 250 pays two rows of 100; the rest is the referee's."""
    house = House(CHECKED)
    anna, ben = _two(house, rows=200, budget=250)
    house.work(anna, ben)

    house.assert_complete()
    assert sum(c.amount for _, c in house.credits() if c.kind == "check") <= 200


def test_own_jobs_earn_no_trust() -> None:
    """A customer's own rig is paid, but does not become established by its own rows."""
    house = House()
    house.open_job(rows=300, account="anna")
    anna = house.connect("anna")
    house.work(anna)

    house.assert_complete()
    assert house.trust["anna", "r"].cleared_shares == 0
    assert house.trust["anna", "r"].held == 30_000


@pytest.mark.parametrize("direct", [True, False])
def test_a_share_without_a_sample_clears_after_the_window(direct: bool) -> None:
    """10 s after its last part; at once for direct requests."""
    house = House(Policy(check_floor_ppm=1, referee_floor_ppm=1))
    house.established("anna", held=10**12)
    house.open_job(rows=10, direct=direct)
    anna = house.connect("anna")
    lease = next(iter(anna.leases))
    house.submit(anna, lease)
    assert not house.drawn
    assert (house.shares[lease].verdict == "cleared") is direct

    house.tick(9.9)
    assert (house.shares[lease].verdict == "cleared") is direct
    house.tick(0.2)
    assert house.shares[lease].verdict == "cleared"


def test_an_idle_newcomer_does_not_wait_for_a_busy_checker(of) -> None:
    """Its rows lie behind the work that Ben has in hand: soon the referee takes them."""
    house = House(Policy(probation_shares=2, min_difficulty=100, initial_difficulty=2_000))
    house.established("ben")
    house.connect("ben", credit=2)
    house.open_job(rows=1_000, check_budget=100_000)
    anna = house.connect("anna", credit=2)
    house.at += 1
    house.submit(anna)  # with nothing held, the referee draws all of it
    house.referee = False
    house.at += 1
    house.submit(anna)
    assert not anna.leases, "it waits for its verdict"
    house.asked.clear()
    assert not of(house.tick(1), fx.RefereeWanted)

    house.referee = True
    assert of(house.tick(1), fx.RefereeWanted)


def _checkers(house: House) -> set[str]:
    return {ended.checker.split(".")[0] for ended in house.ended.values()}


@pytest.mark.parametrize(
    ("separate", "ben", "checkers"),
    [
        (True, "192.0.2.0/24", {"referee"}),
        (True, "198.51.100.0/24", {"ben", "referee"}),
        (False, "192.0.2.0/24", {"ben", "referee"}),
        (True, "", {"ben", "referee"}),
    ],
)
def test_nobody_checks_a_rig_of_its_own_network_block(
    separate: bool, ben: str, checkers: set[str]
) -> None:
    """Unless the policy allows it; whoever is on the pool's own machine has no block."""
    house = House(replace(CHECKED, separate_groups=separate))
    house.established("anna")
    house.established("ben")
    first = house.connect("anna", credit=2, group="192.0.2.0/24")
    house.open_job(rows=100, check_budget=10_000)
    second = house.connect("ben", credit=2, group=ben)
    house.at += 1
    house.submit(first)
    while second.leases:
        house.at += 1
        house.submit(second)
    house.tick(100)
    mine = {
        house.ended[check].checker.split(".")[0]
        for check, drawn in house.drawn.items()
        if check in house.ended and house.shares[drawn.lease].issued.account == "anna"
    }

    assert mine <= checkers
    assert ("ben" in mine) == ("ben" in checkers)


def test_loopback_is_nobody_s_neighbour() -> None:
    """Two rigs without a block check one another, as in a demonstration on one machine."""
    house = House(CHECKED)
    anna, ben = _two(house, rows=200)
    house.work(anna, ben)

    assert {"anna", "ben"} <= _checkers(house)

"""Wrong rows: found, proved by the referee, and answered in proportion."""

from __future__ import annotations

import numpy as np
import pytest
from driver import KEY, HeldLease, House, PlayedRig, false_digest, true_digest

from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev
from shares.results import part_digest
from shares.trust.sampling import HELD, REFEREE, draw
from shares.trust.standing import Standing

SMALL = Policy(min_difficulty=100, initial_difficulty=2_000)
CHECKED = Policy(
    probation_shares=0,
    min_difficulty=100,
    initial_difficulty=2_000,
    check_floor_ppm=1_000_000,
)


def _cheat(rig: PlayedRig, *, every: int = 5, name: str = "liar") -> PlayedRig:
    rig.lies = lambda key: key[2] % every == 0
    rig.liar = name
    return rig


def _share_of(house: House, account: str, number: int = 0):
    return [share for share in house.shares.values() if share.issued.account == account][number]


def test_a_cheat_with_one_row_in_five_is_rejected_at_its_first_share(of) -> None:
    """Three rigs of three accounts; the cheat's first share is its last; the job is whole."""
    house = House(SMALL)
    rigs = [house.connect(name) for name in ("anna", "ben")]
    cheat = _cheat(house.connect("carl"))
    house.open_job(rows=300)
    house.work(*rigs, cheat)

    house.assert_complete()
    (first, *others) = [s for s in house.shares.values() if s.issued.account == "carl"]
    assert (first.verdict, first.reason) == ("rejected", "wrong_row")
    assert all(share.verdict != "cleared" for share in others)
    assert cheat.reasons == ["banned"]
    assert house.trust["carl", "r"].offences == 1


def test_one_wrong_row_costs_the_share_and_is_not_an_offence(of) -> None:
    """A bit flip: the share is done again, the rig goes on."""
    house = House(SMALL)
    house.open_job(rows=300)
    rig = house.connect("anna")
    effects = house.submit(rig, wrong={3})
    flat = effects + house.log[-1] + house.log[-2]

    assert _share_of(house, "anna").verdict == "rejected"
    trust = house.trust["anna", "r"]
    assert (trust.isolated, trust.offences, trust.rejected_shares) == (1, 0, 1)
    assert not of(flat, fx.HeldForfeited)
    assert rig.session is not None
    house.work(rig)
    house.assert_complete()


LOW = Policy(
    probation_shares=0,
    min_difficulty=100,
    initial_difficulty=2_000,
    check_floor_ppm=1,
    window_seconds=100,
)


def _drawn_if(house: House, lease: int, wrong: set[int]) -> set[int]:
    """Rows of a share of LOW that the referee would draw, were these rows wrong."""
    share = house.shares[lease].issued
    keys = HeldLease(lease, share.segments).keys
    digests = b"".join(
        false_digest(*key) if row in wrong else true_digest(*key) for row, key in enumerate(keys)
    )
    works = np.full(len(keys), 100, np.int64)
    rate = 2 * 100_000 * 1_000 // 1_000
    return set(draw(KEY, REFEREE, lease, 0, part_digest(digests), works, rate, 100_000))


def _low() -> tuple[House, PlayedRig]:
    """An established rig that holds the pay of 10 rows: sampled at 2/10."""
    house = House(LOW, referee=False)
    house.established("anna", held=1_000)
    rig = house.connect("anna", credit=10)
    house.open_job(rows=2_000)
    return house, rig


def test_a_share_with_one_row_found_is_counted_through(of) -> None:
    """The draw met one wrong row of two: the referee computes the rest and finds the other."""
    house, rig = _low()
    lease = next(iter(rig.leases))
    lies = next(
        {a, b}
        for a in range(20)
        for b in range(a)
        if len(_drawn_if(house, lease, {a, b}) & {a, b}) == 1
    )
    house.submit(rig, lease, wrong=lies)
    assert len({row for want in house.asked for row in want.rows} & lies) == 1
    house.referee = True
    house.answer()

    assert house.shares[lease].verdict == "rejected"
    assert (house.trust["anna", "r"].isolated, house.trust["anna", "r"].offences) == (1, 1)
    assert lies <= {row for _, _, row in house.referee_rows}


def test_a_share_counted_through_without_another_row_stays_a_bit_flip(of) -> None:
    house, rig = _low()
    lease = next(iter(rig.leases))
    lie = next(row for row in range(20) if row in _drawn_if(house, lease, {row}))
    house.submit(rig, lease, wrong={lie})
    house.referee = True
    house.answer()

    rows = {row for _, _, row in house.referee_rows}
    assert {row for _, _, row in HeldLease(0, house.shares[lease].issued.segments).keys} <= rows
    assert (house.trust["anna", "r"].isolated, house.trust["anna", "r"].offences) == (1, 0)


def test_a_suspects_other_shares_are_checked_in_full(of) -> None:
    """After an isolated wrong row every uncleared row of the rig is drawn."""
    house, rig = _low()
    first, second = list(rig.leases)[:2]
    house.submit(rig, first)
    before = [d.row for d in house.drawn.values() if d.lease == first]
    lie = next(row for row in range(20) if row in _drawn_if(house, second, {row}))
    house.submit(rig, second, wrong={lie})
    assert len(before) < 20
    house.asked.reverse()
    want = house.asked.pop(0)
    house.handle(
        ev.RefereeAnswered(
            at=house.at,
            job=1,
            block=0,
            rows=want.rows,
            digests=b"".join(true_digest(1, 0, row) for row in want.rows),
        )
    )

    assert house.shares[second].verdict == "rejected"
    assert len({d.row for d in house.drawn.values() if d.lease == first}) == 20
    third = next(iter(rig.leases))
    (part,) = of(house.submit(rig, third), fx.PartAccepted)
    assert part.check_rate_ppm == 1_000_000, "and what it holds already, as it comes"


def test_a_second_isolated_row_is_an_offence(of) -> None:
    house = House(SMALL)
    house.open_job(rows=600)
    rig = house.connect("anna")
    house.submit(rig, wrong={3})
    assert house.trust["anna", "r"].offences == 0
    house.tick(1)
    house.submit(rig, wrong={4})

    trust = house.trust["anna", "r"]
    assert (trust.isolated, trust.offences) == (2, 1)
    assert rig.reasons == ["banned"]


def test_an_offence_forfeits_what_is_pending_and_held(of) -> None:
    """The share that proves it goes back to the customer; the others' pay is forfeited."""
    house = House(Policy(min_difficulty=100, initial_difficulty=2_000, probation_shares=0))
    house.established("anna", held=5_000)
    rig = house.connect("anna", credit=10)
    house.open_job(rows=2_000)
    house.referee = False
    house.at += 1
    honest = next(iter(rig.leases))
    house.submit(rig, honest, rows=2)
    house.at += 1
    house.submit(rig, honest)
    lying = next(iter(rig.leases))
    held = rig.leases[lying]
    house.submit(rig, lying, wrong=set(range(len(held.keys))))
    house.asked.reverse()  # its answer comes first
    house.referee = True
    house.answer()
    house.work(house.connect("zoe"))

    assert house.shares[lying].verdict == "rejected"
    assert (house.shares[lying].reason, house.shares[lying].forfeit) == ("wrong_row", False)
    assert (house.shares[honest].reason, house.shares[honest].forfeit) == ("offence", True)
    assert [(f.units, f.reason, f.lease) for f in house.forfeits] == [(5_000, "offence", lying)]
    assert house.trust["anna", "r"].held == 0
    assert house.trust["anna", "r"].cleared_shares == 0, "it is on probation again"
    house.assert_complete()


def test_a_ban_ends_and_the_next_one_is_twice_as_long() -> None:
    house = House(SMALL)
    house.open_job(rows=2_000)
    cheat = _cheat(house.connect("carl"))
    house.submit(cheat)
    assert house.trust["carl", "r"].banned_until == house.at + 3_600

    house.connect("carl")
    assert cheat.reasons == ["banned", "banned"]
    house.connect("carl", "another")
    assert house.rigs["carl", "another"].reasons == ["banned"]

    house.tick(3_601)
    house.connect("carl", "another")
    assert house.rigs["carl", "another"].session is not None
    house.connect("carl")
    assert cheat.session is not None
    while cheat.session is not None:
        house.submit(cheat)
    assert house.trust["carl", "r"].banned_until == house.at + 7_200


def test_a_ban_is_the_accounts() -> None:
    """Its rig of long standing is sent away too, and no name of the account comes in."""
    house = House(SMALL)
    house.established("carl", "old")
    old = house.connect("carl", "old")
    house.open_job(rows=2_000)
    house.submit(_cheat(house.connect("carl")))
    assert old.reasons == ["banned"]
    assert house.board.banned_until("carl") == house.at + 3_600
    house.connect("carl", "old")
    house.connect("carl", "new")
    assert old.session is None
    assert house.rigs["carl", "new"].session is None

    house.tick(3_601)
    house.connect("carl", "old")
    assert old.session is not None


def test_what_another_rig_of_a_banned_account_did_is_checked_and_paid(of) -> None:
    """Its accepted part is not forfeited, but every row of it is computed again."""
    house = House(LOW, referee=False)
    house.established("carl", "old", held=10**9)
    old = house.connect("carl", "old", credit=3)
    house.open_job(rows=2_000)
    first, second = list(old.leases)[:2]
    house.submit(old, first)
    house.submit(old, second, rows=3)
    assert not [d for d in house.drawn.values() if d.lease in (first, second)]
    cheat = _cheat(house.connect("carl", "new"), every=1)
    house.submit(cheat)
    house.submit(cheat)
    house.referee = True
    house.answer()

    assert cheat.reasons == old.reasons == ["banned"]
    assert len([d for d in house.drawn.values() if d.lease == first]) == 20
    assert len([d for d in house.drawn.values() if d.lease == second]) == 3
    assert house.shares[first].verdict == house.shares[second].verdict == "cleared"
    assert house.trust["carl", "old"].held > 10**9


def test_a_second_isolated_row_of_an_account_is_an_offence_whichever_rig() -> None:
    """Each rig of a cheat would otherwise have a free wrong row."""
    house = House(SMALL)
    house.open_job(rows=600)
    one, two = house.connect("anna", "one"), house.connect("anna", "two")
    house.submit(one, wrong={3})
    assert house.trust["anna", "one"].offences == 0
    house.tick(1)
    house.submit(two, wrong={4})

    assert (house.trust["anna", "two"].isolated, house.trust["anna", "two"].offences) == (1, 1)
    assert one.reasons == two.reasons == ["banned"]


def test_offences_of_all_rigs_of_an_account_make_its_ban_longer() -> None:
    house = House(SMALL)
    house.open_job(rows=2_000)
    house.submit(_cheat(house.connect("carl", "one")))
    house.tick(3_601)
    house.submit(_cheat(house.connect("carl", "two")))

    assert house.board.banned_until("carl") == house.at + 7_200


def test_a_mismatch_goes_to_the_referee_who_finds_the_share_guilty(of) -> None:
    """Ben checks Anna's row, differs, and is right."""
    house, _anna, _ben = _pair(lies_of="anna")
    ended = [e for e in house.ended.values() if e.outcome == "guilty"]

    assert ended
    assert {e.checker for e in ended} <= {"ben.r", "referee"}
    assert "ben.r" in {e.checker for e in ended}
    assert house.trust["anna", "r"].rejected_shares > 0
    assert house.trust["ben", "r"].rejected_shares == 0
    house.assert_complete()


def test_a_wrong_accuser_loses_its_own_share(of) -> None:
    """Ben lies in check rows: Anna's share stands, Ben's is rejected, and Ben is banned."""
    house, _anna, _ben = _pair(lies_of="ben")
    outcomes = {e.outcome for e in house.ended.values() if e.checker == "ben.r"}

    assert "accuser_wrong" in outcomes
    assert house.trust["anna", "r"].rejected_shares == 0
    assert house.trust["ben", "r"].offences == 1
    house.assert_complete()


def test_when_both_are_wrong_both_pay(of) -> None:
    """They lie differently about the same rows."""
    house, _anna, _ben = _pair(lies_of="both")
    outcomes = {e.outcome for e in house.ended.values()}

    assert "both_wrong" in outcomes
    assert house.trust["anna", "r"].offences == 1
    assert house.trust["ben", "r"].offences == 1


def _pair(lies_of: str) -> tuple[House, PlayedRig, PlayedRig]:
    """Two established rigs that check each other in full, some of whose rows are false."""
    house = House(CHECKED)
    house.established("anna")
    house.established("ben")
    anna = house.connect("anna", credit=2)
    ben = house.connect("ben", credit=2)
    if lies_of in ("anna", "both"):
        _cheat(anna, every=2, name="anna")
    if lies_of in ("ben", "both"):
        _cheat(ben, every=2, name="ben")
    house.open_job(rows=200, check_budget=10**6)
    honest = house.connect("zoe")
    for _ in range(400):
        house.at += 1
        for rig in (anna, ben, honest):
            if rig.session is not None and rig.leases:
                house.submit(rig)
        house.tick(0)
        if house.jobs[1].closed:
            break
    return house, anna, ben


def test_colluding_checkers_are_found_by_the_referees_draw() -> None:
    """Every rig lies alike and checks agree: the referee's own sample still finds it."""
    house = House(
        Policy(
            probation_shares=0,
            min_difficulty=100,
            initial_difficulty=5_000,
            check_floor_ppm=300_000,
            referee_floor_ppm=3_000,
        ),
        checked=False,
    )
    names = ("anna", "ben", "carl")
    for name in names:
        house.established(name)
    rigs = [_cheat(house.connect(name), every=1, name="ring") for name in names]
    house.open_job(rows=5_000, check_budget=10**9)
    for _ in range(300):
        house.at += 1
        for rig in rigs:
            if rig.session is not None and rig.leases:
                house.submit(rig)
        house.tick(0)
    outcomes = [(e.outcome, e.checker) for e in house.ended.values()]

    assert any(o == "matched" and c != "referee" for o, c in outcomes), "they agreed"
    assert ("guilty", "referee") in outcomes
    assert all(house.trust[name, "r"].offences == 1 for name in names)
    house.work(house.connect("zoe"), seconds=5)
    rows = house.final_rows(1)
    assert len(rows) == 5_000


def test_a_cleared_share_adds_to_what_is_held() -> None:
    house = House(SMALL)
    house.open_job(rows=100)
    house.work(house.connect("anna"))

    trust = house.trust["anna", "r"]
    assert trust.held == trust.cleared_work == 10_000
    house.handle(ev.HoldReleased(at=house.at, account="anna", rig="r", units=4_000))
    assert house.trust["anna", "r"].held == 6_000


def test_a_rejected_shares_check_pay_returns_to_its_budget() -> None:
    """What a wrong accuser had been credited for checking is back in the budget or spent again."""
    house, _, _ = _pair(lies_of="ben")
    spent = sum(c.amount for _, c in house.credits() if c.source == "check")
    forfeited = sum(
        c.amount for share, c in house.credits(live=False) if c.source == "check" and share.forfeit
    )
    referee = sum(paid.amount for paid in house.referee_paid)

    assert spent + forfeited + referee + house.check_left(1) == 10**6


def test_the_referees_word_is_kept_and_used_again(of) -> None:
    """A row it computed is never asked for again, and a lie about it is known at once."""
    house = House(SMALL)
    house.open_job(rows=300)
    cheat = _cheat(house.connect("carl"), every=1)
    house.submit(cheat)
    asked = len(house.referee_rows)
    assert asked == len(set(house.referee_rows))
    ben = house.connect("ben")
    (lease,) = ben.leases.values()
    again = {key for key in lease.keys if key in set(house.referee_rows)}
    assert again
    effects = house.submit(ben, wrong={0, 1})

    assert [(e.state, e.reason) for e in of(effects, fx.ShareJudged)][:1] == [
        ("rejected", "wrong_row")
    ]


def test_a_referees_answer_to_nothing_changes_nothing() -> None:
    house = House()
    house.open_job(rows=10)
    answer = ev.RefereeAnswered(
        at=house.at, job=1, block=0, rows=(0,), digests=true_digest(1, 0, 0)
    )
    assert house.handle(answer) == []
    assert house.handle(ev.RefereeAnswered(at=house.at, job=9, block=0, rows=(), digests=b"")) == []
    with pytest.raises(ValueError, match="16 bytes a row"):
        house.handle(ev.RefereeAnswered(at=house.at, job=1, block=0, rows=(0,), digests=b""))


def _fined(by: str) -> tuple[House, int]:
    """An established rig with the pay of 1,000 rows of 100 work, one of whose rows is wrong and
    drawn by ``rig`` or by the ``referee``; returns the house and the share."""
    drawn, other = 1_000_000, 10_000
    policy = Policy(
        probation_shares=0,
        min_difficulty=100,
        initial_difficulty=2_000,
        check_floor_ppm=drawn if by == "rig" else other,
        referee_floor_ppm=drawn if by == "referee" else other,
    )
    house = House(policy)
    house.established("anna", held=100_000)
    rig = house.connect("anna", credit=10)
    house.open_job(rows=2_000)
    lease = next(iter(rig.leases))
    house.submit(rig, lease, wrong={3})
    house.answer()
    return house, lease


@pytest.mark.parametrize("by", ["rig", "referee"])
def test_a_first_wrong_row_costs_the_rows_that_it_may_have_hidden(by: str) -> None:
    """Of rows that are all checked none can be hidden: the fine is one row."""
    house, lease = _fined(by)

    assert house.shares[lease].reason == "wrong_row"
    assert [(f.units, f.reason, f.lease) for f in house.forfeits] == [(100, "wrong_row", lease)]
    assert house.trust["anna", "r"].held == 99_900


@pytest.mark.parametrize(("by_referee", "rows"), [(False, 100), (True, 1_000)])
def test_a_fine_follows_the_chance_of_who_found_it(by_referee: bool, rows: int) -> None:
    """1/λ rows where checkers find it, 1/ρ where the referee's sample does."""
    standing = Standing("anna", "r", held=300_000, row_work=100_000)

    fine = standing.fine(HELD, 1, Policy(), by_referee=by_referee)

    assert fine == rows * 100


@pytest.mark.parametrize("held", [0, 1, 150, 5_000, 10**6])
@pytest.mark.parametrize("by_referee", [False, True])
def test_a_fine_is_at_most_half_of_the_hold_or_one_row(held: int, by_referee: bool) -> None:
    standing = Standing("anna", "r", held=held, row_work=100_000)

    fine = standing.fine(HELD, 1, Policy(), by_referee=by_referee)

    assert fine <= max(held // 2, min(held, 100))


def test_each_wrong_row_is_put_on_record_with_both_digests(of) -> None:
    """A first one, and then an offence; what was right is not."""
    house = House(SMALL)
    house.open_job(rows=300)
    rig = house.connect("anna")
    house.submit(rig, wrong={3})
    (first,) = house.refuted
    share = house.shares[first.lease].issued
    key = HeldLease(first.lease, share.segments).keys[3]

    assert (first.job, first.block, first.row) == key
    assert (first.expected, first.offence) == (true_digest(*key), False)
    assert first.given != first.expected
    house.submit(rig, wrong={1, 2})
    assert len(house.refuted) == 3
    assert [row.offence for row in house.refuted[1:]] == [True, True]


def test_an_appeal_that_is_won_lifts_what_followed() -> None:
    """The ban and its count; and what is done again is compared with the right digest."""
    house = House(SMALL)
    house.open_job(rows=300)
    rig = house.connect("anna")
    house.submit(rig, wrong={1, 2})
    refuted = list(house.refuted)
    assert house.trust["anna", "r"].offences == 1
    assert house.trust["anna", "r"].banned_until > house.at
    rows = tuple((r.job, r.block, r.row, r.given) for r in refuted)
    house.handle(
        ev.AppealWon(
            at=house.at,
            account="anna",
            rig="r",
            lease=refuted[0].lease,
            rows=rows,
            units=7,
            before=(ev.RigRecord("r", 0, 1, house.trust["anna", "r"].banned_until),),
            after=(ev.RigRecord("r", 0, 0, 0.0),),
        )
    )
    (granted,) = house.granted
    block = house.board._state.block(refuted[0].job, refuted[0].block)

    assert (granted.lease, granted.units) == (refuted[0].lease, 7)
    assert house.trust["anna", "r"].offences == 0
    assert house.trust["anna", "r"].banned_until <= house.at
    assert block is not None
    assert [block.truth[r.row] for r in refuted] == [r.given for r in refuted]

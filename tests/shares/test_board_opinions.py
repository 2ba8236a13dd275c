"""Models in a float numerics: results are compared, the referee is clear or others are asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driver import MODEL, House, PlayedRig, near_digest
from test_board_hedging import _tail

from shares.board import Policy, checks, opinions
from shares.board import effects as fx
from shares.board import events as ev
from shares.board.state import Case, Voice
from shares.nearness import Nearness, nearness

# Every row won is checked, by rigs where there are any, and as good as none by the referee alone.
BY_RIGS = Policy(
    probation_shares=0,
    min_difficulty=100,
    initial_difficulty=1_000,
    check_floor_ppm=1_000_000,
    referee_floor_ppm=1,
)
BY_REFEREE = Policy(
    probation_shares=0,
    min_difficulty=100,
    initial_difficulty=1_000,
    check_floor_ppm=1,
    referee_floor_ppm=1_000_000,
)
BUDGET = 10**6


def _house(policy: Policy, rigs: dict[str, float], *, referee: bool = True) -> House:
    """Established rigs, each at its place, and a job of 60 rows in a float numerics."""
    house = House(policy, referee=referee)
    for account in rigs:
        house.established(account)
    house.open_job(rows=60, check_budget=BUDGET, exact=False)
    for account, place in rigs.items():
        house.connect(account).place = place
    return house


def _work(house: House, *, seconds: float = 1.0, rounds: int = 60) -> None:
    for _ in range(rounds):
        for rig in list(house.rigs.values()):
            if rig.session is not None and rig.leases:
                house.submit(rig)
        house.tick(seconds)


def _rig(house: House, account: str) -> PlayedRig:
    return house.rigs[account, "r"]


def _outcomes(house: House, by: str) -> set[str]:
    return {ended.outcome for check, ended in house.ended.items() if house.drawn[check].by == by}


def _rejected(house: House) -> set[str]:
    return {s.issued.account for s in house.shares.values() if s.verdict == "rejected"}


def test_results_within_the_tolerance_are_as_good_as_equal() -> None:
    """Two honest machines never give the same bits: nobody is accused, nobody asks the referee."""
    house = _house(BY_RIGS, {"anna": 0.6, "ben": -0.6})
    _work(house)

    house.assert_complete()
    assert "matched" in _outcomes(house, "rig")
    assert not house.referee_rows
    assert not _rejected(house)


def test_a_share_is_not_cleared_before_its_checks_are_compared() -> None:
    house = _house(BY_RIGS, {"anna": 0.6, "ben": -0.6}, referee=False)
    for _ in range(100):
        for account in ("anna", "ben"):
            if _rig(house, account).leases:
                house.submit(_rig(house, account))
        house.tick()
        if len(house.comparing) == 60:
            break

    assert len(house.comparing) == 60
    assert not any(share.verdict == "cleared" for share in house.shares.values())
    house.compare()
    while house.comparing:
        house.compare()
    _work(house)
    house.assert_complete()


def test_a_rig_that_lies_is_found_by_another_and_judged_by_the_referee() -> None:
    """What two rigs differ by convicts neither of them: the referee is asked which is far."""
    house = _house(BY_RIGS, {"anna": 0.6, "ben": -0.6, "cheat": 0.3})
    own = {key for lease in _rig(house, "cheat").leases.values() for key in lease.keys}
    _rig(house, "cheat").lies = own.__contains__
    _work(house)

    house.assert_complete()
    assert _rejected(house) == {"cheat"}
    assert "guilty" in _outcomes(house, "rig")
    assert house.trust["cheat", "r"].offences == 1
    assert {row.expected for row in house.refuted} <= {
        near_digest((1, 0, row), 0.0) for row in range(60)
    }


def test_a_checker_that_accuses_falsely_is_convicted_itself() -> None:
    house = _house(BY_RIGS, {"anna": 0.6, "liar": -0.6})
    annas = {key for lease in _rig(house, "anna").leases.values() for key in lease.keys}
    _rig(house, "liar").lies = annas.__contains__
    for _ in range(10):
        if _rig(house, "anna").leases:
            house.submit(_rig(house, "anna"))
        house.tick()
    _work(house)

    assert _rejected(house) == {"liar"}
    assert house.trust["anna", "r"].rejected_shares == 0
    assert _outcomes(house, "rig") & {"accuser_wrong", "both_wrong"}


def test_what_is_far_from_the_referee_is_wrong_without_a_vote() -> None:
    house = _house(BY_REFEREE, {"cheat": 4.1})
    house.submit(_rig(house, "cheat"))

    assert _rejected(house) == {"cheat"}
    assert "opinion" not in {drawn.by for drawn in house.drawn.values()}


def test_what_is_neither_near_nor_far_is_nobodys_fault_when_nobody_can_be_asked() -> None:
    """The referee abstains, and an abstention is no vote against anybody."""
    house = _house(BY_REFEREE, {"odd": 3.9})
    _work(house)

    house.assert_complete()
    assert _outcomes(house, "referee") == {"matched"}
    assert not _rejected(house)


def _asked(house: House, first: str) -> None:
    """Let ``first`` give one part, and everybody else what is asked of them."""
    house.submit(_rig(house, first), rows=1)
    _work(house)


def test_a_third_and_a_fourth_opinion_against_make_a_result_wrong() -> None:
    house = _house(BY_REFEREE, {"odd": 3.0, "anna": 0.5, "ben": -0.5})
    _asked(house, "odd")

    assert "heard" in _outcomes(house, "opinion")
    assert _rejected(house) == {"odd"}
    house.assert_complete()


@pytest.mark.parametrize(
    "others",
    [
        {"anna": 0.5},  # one against is no quorum
        {"anna": 0.5, "twin": 0.99},  # alike to the odd one's: 2.0 - 0.99 is within 2 tolerances
        {"anna": 0.5, "other": -3.0},  # not near the referee itself: an abstention
        {"anna": 0.5, "kin": 3.2},  # nor is this one, but it is alike to the odd one's
        {"anna": 0.5, "far": 4.5},  # a liar's word is none
    ],
)
def test_no_quorum_no_fault(others: dict[str, float]) -> None:
    house = _house(BY_REFEREE, {"odd": 2.0, **others})
    _asked(house, "odd")

    assert "heard" in _outcomes(house, "opinion")
    assert "odd" not in _rejected(house)
    assert "anna" not in _rejected(house)


def test_one_of_the_same_kind_is_asked_first() -> None:
    """What a whole kind of device computes a little differently convicts none of them."""
    house = House(BY_REFEREE)
    accounts = ("odd", "anna", "ben", "carl", "dora", "kin")
    for account in accounts:
        house.established(account)
    house.open_job(rows=60, check_budget=BUDGET, exact=False)
    for account in accounts:
        odd = account in ("odd", "kin")
        rig = house.connect(account, kinds=("Odd",) if odd else ("Common",))
        rig.place = 3.0 if odd else 0.5
    _asked(house, "odd")

    assert "heard" in _outcomes(house, "opinion")
    assert not _rejected(house)


def test_a_word_that_was_taken_back_convicts_nobody_else(of) -> None:
    """An appeal was granted: the row is asked of the referee again for whoever computes it."""
    house = _house(BY_REFEREE, {"cheat": 9.0, "anna": 0.5})
    house.submit(_rig(house, "cheat"), rows=1)
    (refuted,) = house.refuted
    held = next(iter(_rig(house, "anna").leases.values()))
    key = (refuted.job, refuted.block, refuted.row)
    house.handle(
        ev.AppealWon(
            at=house.at,
            account="cheat",
            rig="r",
            lease=refuted.lease,
            rows=((*key, refuted.given),),
            units=0,
            before=(ev.RigRecord("r", 1, 0, 0.0),),
            after=(ev.RigRecord("r", 0, 0, 0.0),),
        )
    )
    asked = len(house.referee_rows)
    while key not in held.keys:
        house.submit(_rig(house, "anna"), held.lease)
        house.tick()
        held = next(iter(_rig(house, "anna").leases.values()))
    house.submit(_rig(house, "anna"), held.lease)

    assert key in house.referee_rows[asked:]
    assert house.trust["anna", "r"].rejected_shares == 0


def test_rigs_of_one_account_have_one_opinion() -> None:
    house = House(BY_REFEREE)
    for account, rig in (("odd", "r"), ("anna", "r"), ("anna", "s")):
        house.established(account, rig)
    house.open_job(rows=60, check_budget=BUDGET, exact=False)
    for account, rig in (("odd", "r"), ("anna", "r"), ("anna", "s")):
        house.connect(account, rig)
    _rig(house, "odd").place = 3.0
    _asked(house, "odd")

    assert "heard" in _outcomes(house, "opinion")
    assert not _rejected(house)


def test_who_is_related_is_not_asked() -> None:
    house = House(BY_REFEREE)
    for account in ("odd", "anna", "ben"):
        house.established(account)
    house.open_job(rows=60, check_budget=BUDGET, exact=False)
    for account in ("odd", "anna", "ben"):
        house.connect(account, group="10.0.0.0/24")
    _rig(house, "odd").place = 3.0
    _asked(house, "odd")

    assert "opinion" not in {drawn.by for drawn in house.drawn.values()}
    assert not _rejected(house)


def test_an_opinion_that_does_not_come_is_not_waited_for() -> None:
    house = _house(BY_REFEREE, {"odd": 3.0, "anna": 0.5, "ben": -0.5})
    house.submit(_rig(house, "odd"), rows=1)
    asked = [check for check, drawn in house.drawn.items() if drawn.by == "opinion"]
    assert len(asked) == 2
    for account in ("anna", "ben"):
        house.disconnect(_rig(house, account))
    for _ in range(10):
        house.tick(60)

    assert {house.ended[check].outcome for check in asked} == {"void"}
    assert not _rejected(house)


def test_opinions_are_paid_like_any_check(of) -> None:
    house = _house(BY_REFEREE, {"odd": 3.0, "anna": 0.5, "ben": -0.5})
    _asked(house, "odd")
    checks = {
        credit.account: credit.amount for _, credit in house.credits() if credit.kind == "check"
    }

    assert set(checks) == {"anna", "ben"}
    house.assert_money()


def test_a_restart_compares_again() -> None:
    """What was being compared when the pool died is neither lost nor held against anybody."""
    house = _house(BY_RIGS, {"anna": 0.6, "ben": -0.6}, referee=False)
    for _ in range(100):
        for account in ("anna", "ben"):
            if _rig(house, account).leases:
                house.submit(_rig(house, account))
        house.tick()
        if house.comparing:
            break
    waiting = list(house.comparing)
    house.restart()

    assert {(w.row, w.digests) for w in waiting} <= {(w.row, w.digests) for w in house.comparing}
    house.referee = True
    house.answer()
    for account in ("anna", "ben"):
        house.connect(account)
    _work(house)
    house.assert_complete()
    assert not house.referee_rows
    assert not _rejected(house)


def test_who_computed_a_row_for_nothing_is_paid_though_its_bits_differ(of) -> None:
    """A hedge's loser in time: alike is enough, and what is not is found out."""
    house, slow, fast, lease = _tail(check_budget=10**6, exact=False)
    slow.place = -0.5
    house.submit(fast)
    slow.leases[lease] = slow.dropped.pop(lease)
    effects = house.submit(slow, lease)

    assert sum(c.amount for c in of(effects, fx.CreditEarned) if c.kind == "hedge") > 0
    house.work(slow, fast)
    house.assert_complete()
    assert not house.referee_rows


def test_a_losers_falsehoods_cost_it_the_share(of) -> None:
    house, slow, fast, lease = _tail(check_budget=10**6, exact=False)
    house.submit(fast)
    slow.leases[lease] = slow.dropped.pop(lease)
    slow.lies = lambda key: True
    house.submit(slow, lease)
    house.tick()

    assert house.shares[lease].verdict == "rejected"
    assert house.trust["fast", "r"].rejected_shares == 0


def test_no_kind_is_tried_where_equal_falsehoods_are_not_equal_bits() -> None:
    house = House(BY_REFEREE)
    for account in ("anna", "ben"):
        house.established(account)
    house.open_job(rows=60, check_budget=BUDGET, exact=False)
    for account in ("anna", "ben"):
        house.connect(account, kinds=("NVIDIA Faulty",)).lies = lambda key: True
    _work(house, rounds=5)

    assert _rejected(house) == {"anna", "ben"}
    assert not any(share.trial for share in house.shares.values())


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    house = _house(BY_RIGS, {"anna": 0.6})
    order = fx.ComparisonWanted(MODEL, "embed", 77, 0, 0, (1, 2), (b"a", b"b"))
    event = ev.ResultsCompared(at=house.at, found=((order, Nearness.FAR),))

    assert not house.handle(event)


@pytest.mark.parametrize(
    ("distance", "referee", "expected"),
    [
        (1.0, True, Nearness.ALIKE),
        (1.01, True, Nearness.UNSURE),
        (16.0, True, Nearness.UNSURE),
        (16.1, True, Nearness.FAR),
        (float("inf"), True, Nearness.FAR),
        (float("nan"), True, Nearness.FAR),
        (2.0, False, Nearness.ALIKE),
        (2.1, False, Nearness.UNSURE),
        (float("inf"), False, Nearness.UNSURE),
    ],
)
def test_what_a_distance_says(distance: float, referee: bool, expected: Nearness) -> None:
    assert nearness(distance * 1e-6, 1e-6, referee=referee) is expected


def _checked_by(house: House, checker: str, target: str) -> None:
    """Let ``target`` give all it has, and ``checker`` the checks of it, nothing compared yet."""
    house.referee = False
    for _ in range(40):
        for account in (target, checker):
            if _rig(house, account).leases:
                house.submit(_rig(house, account))
        if house.comparing:
            return
        house.tick()
    raise AssertionError("no check came")


@pytest.mark.parametrize(
    ("odd", "fourth", "guilty"),
    [
        (2.0, 0.99, False),  # one for it is enough, though two are against
        (3.9, -3.9, True),  # an abstention
    ],
)
def test_the_checker_has_an_opinion_too(odd: float, fourth: float, guilty: bool) -> None:
    house = House(BY_RIGS)
    for account in ("odd", "anna", "ben", "dora"):
        house.established(account)
    house.open_job(rows=60, check_budget=BUDGET, exact=False)
    house.connect("odd").place = odd
    house.connect("anna").place = -0.3
    _checked_by(house, "anna", "odd")
    house.connect("ben").place = -0.2
    house.connect("dora").place = fourth
    house.referee = True
    house.answer()
    _work(house)

    assert ("odd" in _rejected(house)) == guilty
    assert "anna" not in _rejected(house)
    assert "ben" not in _rejected(house)


def test_two_rigs_of_an_account_are_one_voice_and_a_liar_is_none() -> None:
    house = _house(BY_RIGS, {"odd": 3.0}, referee=False)
    state = house.board._state
    key = (1, 0, 0)
    digests = [near_digest(key, place) for place in (3.0, 0.1, 0.2, 0.3, 4.1)]
    block = state.jobs[1].opened[0]
    block.truth[0] = near_digest(key, 0.0)
    odd, first, second, other, liar = (
        Voice(lease, state.rig((account, rig)), digest)
        for lease, account, rig, digest in zip(
            range(1, 6), ("odd", "anna", "anna", "ben", "liar"), "rrsrr", digests, strict=True
        )
    )
    block.near[0, liar.digest, block.truth[0], True] = Nearness.FAR
    pair = sorted((liar.digest, odd.digest))
    block.near[0, pair[0], pair[1], False] = Nearness.ALIKE
    for voice in (first, second, other):
        block.near[0, voice.digest, block.truth[0], True] = Nearness.ALIKE
        pair = sorted((voice.digest, odd.digest))
        block.near[0, pair[0], pair[1], False] = Nearness.UNSURE
    case = Case(key)

    assert opinions._is_wrong(state, case, odd, [odd, first, second]) is False
    assert opinions._is_wrong(state, case, odd, [odd, first, second, other]) is True
    assert opinions._is_wrong(state, case, odd, [odd, first, other, liar]) is True


def _compare_where(house: House, wanted: Callable[[fx.ComparisonWanted], bool]) -> None:
    """Answer those comparisons only, also those that they lead to."""
    while found := [want for want in house.comparing if wanted(want)]:
        house.comparing.remove(found[0])
        house.comparing.insert(0, found[0])
        house.compare()


def test_a_check_whose_checker_is_rejected_meanwhile_is_done_by_another() -> None:
    """And a word of the referee's while results are compared leaves no check nowhere."""
    house = _house(BY_RIGS, {"anna": 0.6, "ben": 0.5, "cheat": -0.6})
    own = {key for lease in _rig(house, "cheat").leases.values() for key in lease.keys}
    _rig(house, "cheat").lies = own.__contains__
    house.referee = False
    for _ in range(40):
        for rig in house.rigs.values():
            if rig.leases:
                house.submit(rig)
        house.tick()
    cheats = {n for n, share in house.shares.items() if share.issued.account == "cheat"}
    pending = [
        want
        for want in house.comparing
        if set(want.leases) & cheats and want.row not in {row for _, _, row in own}
    ]
    assert pending, "the cheat checked nobody"
    # Everything about the cheat's own rows first: it is found out, and its shares rejected.
    of_others = {(want.row, want.digests) for want in pending}
    for _ in range(20):
        _compare_where(house, lambda want: (want.row, want.digests) not in of_others)
        while house.asked:
            house.say()
    assert "cheat" in _rejected(house)
    house.referee = True
    house.answer()
    _work(house)

    house.assert_complete()
    assert _rejected(house) == {"cheat"}


def test_a_word_that_is_taken_back_while_somebody_waits_for_it_is_asked_again() -> None:
    house = _house(BY_REFEREE, {"cheat": 9.0, "anna": 0.5})
    house.submit(_rig(house, "cheat"), rows=1)
    (refuted,) = house.refuted
    key = (refuted.job, refuted.block, refuted.row)
    anna = _rig(house, "anna")
    while not any(key in held.keys for held in anna.leases.values()):
        house.submit(anna)
        house.tick()
    house.referee = False
    lease = next(number for number, held in anna.leases.items() if key in held.keys)
    house.submit(anna, lease)
    assert any(want.row == refuted.row and want.leases[1] == 0 for want in house.comparing)
    asked = len(house.referee_rows)
    house.handle(
        ev.AppealWon(
            at=house.at,
            account="cheat",
            rig="r",
            lease=refuted.lease,
            rows=((*key, refuted.given),),
            units=0,
            before=(ev.RigRecord("r", 1, 0, 0.0),),
            after=(ev.RigRecord("r", 0, 0, 0.0),),
        )
    )

    assert key in house.referee_rows[asked:]
    house.referee = True
    house.answer()
    _work(house)
    assert house.shares[lease].verdict == "cleared"


def test_opinions_are_asked_anew_after_a_restart() -> None:
    house = _house(BY_REFEREE, {"odd": 3.0, "anna": 0.5, "ben": -0.5})
    house.submit(_rig(house, "odd"), rows=1)
    asked = [check for check, drawn in house.drawn.items() if drawn.by == "opinion"]
    house.restart()

    assert {house.ended[check].outcome for check in asked} == {"void"}
    for account, place in (("odd", 3.0), ("anna", 0.5), ("ben", -0.5)):
        house.connect(account).place = place
    _work(house)
    assert not any(share.verdict == "accepted" for share in house.shares.values())


def test_the_referee_may_speak_while_results_are_compared() -> None:
    """A row is in two doubts; the referee is asked for the first, and answers before the other."""
    house = _house(BY_RIGS, {"anna": 0.6, "ben": -0.6})
    _checked_by(house, "ben", "anna")
    want = house.comparing[0]
    state = house.board._state
    lease = next(lease for lease in state.leases.values() if lease.lease in want.leases)
    key = (want.job, want.block, want.row)
    checks.ask(state, key, lease.rig, urgent=True)
    house.tick(0)
    block = state.jobs[key[0]].opened[key[1]]
    for digest in want.digests:  # its word is what it was before it was taken back
        block.near[key[2], digest, near_digest(key, 0.0), True] = Nearness.ALIKE
    house.say()
    house.referee = True
    house.answer()
    _work(house)

    house.assert_complete()
    assert not _rejected(house)

"""A wrong row is its rig's own doing, or that of every device of its kind: witnesses say which."""

from __future__ import annotations

import pytest
from driver import MODEL, House, PlayedRig

from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev

POLICY = Policy(min_difficulty=100, initial_difficulty=1_000, referee_floor_ppm=1_000_000)
FAULTY, GOOD = "NVIDIA Faulty", "NVIDIA Good"
BUDGET = 10**6


def _faulty(key: tuple[int, int, int]) -> bool:
    """What all devices of the kind compute wrongly, and alike."""
    return key[2] % 4 == 0


def _house(*established: str, policy: Policy = POLICY) -> House:
    house = House(policy)
    for account in (*established, "judge"):
        house.established(account)
    house.connect("judge", kinds=(GOOD,))
    return house


def _rig(house: House, account: str, *, lies: bool = True, kind: str = FAULTY) -> PlayedRig:
    rig = house.connect(account, kinds=(kind,))
    if lies:
        rig.lies = _faulty
    rig.liar = "kind"
    return rig


def _submit_all(house: House, *rigs: PlayedRig, rounds: int = 30) -> None:
    for _ in range(rounds):
        for rig in rigs:
            if rig.session is not None and rig.leases:
                house.submit(rig)
        house.tick(1.0)


def _offences(house: House, *accounts: str) -> list[int]:
    return [house.trust[account, "r"].offences for account in accounts]


def test_equal_wrong_rows_of_unrelated_accounts_are_put_down_to_their_kind() -> None:
    """Nobody is fined or banned, nobody is paid for them, and the kind is accused."""
    house = _house("anna", "ben", "carl")
    rigs = [_rig(house, account) for account in ("anna", "ben", "carl")]
    judge = house.rigs["judge", "r"]
    house.open_job(rows=400, check_budget=BUDGET)
    _submit_all(house, *rigs, judge)

    assert {one.account for one in house.excused.values()} >= {"anna", "ben"}
    assert {one.kind for one in house.excused.values()} == {FAULTY}
    assert house.kinds_accused
    assert house.kinds_accused[0].model == MODEL
    assert house.kinds_accused[0].kind == FAULTY
    assert not house.forfeits
    assert _offences(house, "anna", "ben", "carl") == [0, 0, 0]
    assert all(rig.session is not None for rig in rigs)
    rejected = [share for share in house.shares.values() if share.verdict == "rejected"]
    assert {share.reason for share in rejected} == {"engine_kind"}
    assert not any(share.forfeit for share in rejected)
    house.work(judge)
    house.assert_complete()


def test_one_right_answer_convicts() -> None:
    """A cheat that names an honest rig's kind, or one with a partner among honest rigs."""
    house = _house("cheat", "partner", "honest", "other")
    cheat = _rig(house, "cheat")
    partner = _rig(house, "partner")
    honest = [_rig(house, name, lies=False) for name in ("honest", "other")]
    house.open_job(rows=400, check_budget=BUDGET)
    _submit_all(house, cheat, partner, *honest, house.rigs["judge", "r"])

    assert not house.excused
    assert not house.kinds_accused
    assert _offences(house, "cheat") == [1]
    assert _offences(house, "honest", "other") == [0, 0]
    house.work(*honest)
    house.assert_complete()


def test_who_has_nobody_of_its_kind_is_convicted_at_once() -> None:
    house = _house("cheat", "honest")
    cheat, honest = _rig(house, "cheat"), _rig(house, "honest", lies=False, kind=GOOD)
    house.open_job(rows=200, check_budget=BUDGET)
    _submit_all(house, cheat, honest, rounds=2)

    assert not any(share.trial for share in house.shares.values())
    assert _offences(house, "cheat") == [1]


def test_witnesses_that_are_silent_help_nobody() -> None:
    """After a minute the accused is convicted; the row is not waited for any longer."""
    house = _house("cheat", "slow")
    cheat, slow = _rig(house, "cheat"), _rig(house, "slow", lies=False)
    judge = house.rigs["judge", "r"]
    house.open_job(rows=200, check_budget=BUDGET)
    _submit_all(house, cheat, judge, rounds=10)

    assert any(share.trial for share in house.shares.values())
    assert _offences(house, "cheat") == [0]
    assert not cheat.leases, "it is given nothing while it is tried"
    _submit_all(house, judge, rounds=70)
    assert _offences(house, "cheat") == [1]
    assert slow.session is not None
    assert house.trust["slow", "r"].rejected_shares == 0


def test_different_wrong_answers_are_no_fault_of_the_kind() -> None:
    house = _house("one", "two")
    one, two = _rig(house, "one"), _rig(house, "two")
    two.liar = "another"
    house.open_job(rows=200, check_budget=BUDGET)
    _submit_all(house, one, two, house.rigs["judge", "r"], rounds=100)

    assert not house.excused
    assert sum(_offences(house, "one", "two")) == 2


def test_newcomers_do_not_keep_strangers_from_a_model() -> None:
    """Two new accounts that agree are excused, themselves alone: names cost nothing."""
    house = _house()
    rigs = [_rig(house, account) for account in ("new", "newer")]
    house.open_job(rows=400, check_budget=BUDGET)
    _submit_all(house, *rigs, house.rigs["judge", "r"], rounds=60)

    assert {one.account for one in house.excused.values()} == {"new", "newer"}
    assert not house.kinds_accused
    assert not any(rig.leases for rig in rigs), "an excused account gets no more of the model"
    stranger = _rig(house, "stranger", lies=False)
    house.open_job(2, rows=400)
    assert stranger.leases


def test_an_honest_established_rig_is_asked_before_any_newcomer() -> None:
    """However many sybils name its kind."""
    house = _house("honest")
    honest = _rig(house, "honest", lies=False)
    sybils = [_rig(house, f"sybil{n}") for n in range(8)]
    house.open_job(rows=400, check_budget=BUDGET)
    _submit_all(house, *sybils, honest, house.rigs["judge", "r"], rounds=60)

    assert not house.excused
    assert all(share.verdict != "accepted" for share in house.shares.values())


def test_who_blames_another_kind_each_time_is_convicted() -> None:
    house = _house("anna", "ben")
    anna, ben = _rig(house, "anna"), _rig(house, "ben")
    judge = house.rigs["judge", "r"]
    house.open_job(rows=200, check_budget=BUDGET)
    _submit_all(house, anna, ben, judge)
    assert {one.account for one in house.excused.values()} == {"anna", "ben"}
    for rig in (anna, ben):
        house.disconnect(rig)
        house.connect(rig.account, kinds=("NVIDIA Other",), model="another")
        house.trust[rig.account, "r"] = _proved(house.trust[rig.account, "r"], "another")
    house.restart()
    for account in ("anna", "ben"):
        house.connect(account, kinds=("NVIDIA Other",), model="another")
    house.connect("judge", kinds=(GOOD,))
    house.open_job(2, rows=200, model="another", check_budget=BUDGET)
    _submit_all(house, anna, ben, rounds=100)

    assert _offences(house, "anna", "ben") == [1, 1]


def _proved(trust: fx.TrustChanged, model: str) -> fx.TrustChanged:
    fields = {name: getattr(trust, name) for name in trust.__slots__}
    return fx.TrustChanged(**fields | {"proved": ((MODEL, 10**7), (model, 10**7))})


@pytest.mark.parametrize("guilty", [True, False])
def test_the_operator_decides_what_becomes_of_the_excused(*, guilty: bool) -> None:
    """Guilty: counted as any wrong rows are. Innocent: forgotten, and it may go on."""
    house = _house("anna", "ben")
    anna, ben = _rig(house, "anna"), _rig(house, "ben")
    house.open_job(rows=200, check_budget=BUDGET)
    _submit_all(house, anna, ben, house.rigs["judge", "r"])
    held = house.trust["anna", "r"].held
    house.restart(1.0)  # an excuse outlasts the pool
    for account in ("anna", "ben"):
        house.connect(account, kinds=(FAULTY,)).lies = lambda _: False
    house.connect("judge", kinds=(GOOD,))
    house.open_job(2, rows=400)
    assert not anna.leases
    for lease in [one.lease for one in house.excused.values() if one.account == "anna"]:
        house.decide(lease, guilty=guilty)

    assert bool(anna.leases) is not guilty
    assert _offences(house, "anna") == [int(guilty)]
    assert (anna.session is None) is guilty
    assert sum(forfeit.units for forfeit in house.forfeits) == (held if guilty else 0)
    assert not ben.leases, "nobody decided on the other"


def test_a_trial_goes_on_after_a_restart() -> None:
    """The pool is killed while witnesses compute: their kind is heard all the same."""
    house = _house("anna", "ben")
    anna, ben = _rig(house, "anna"), _rig(house, "ben")
    house.open_job(rows=200, check_budget=BUDGET)
    _submit_all(house, anna, house.rigs["judge", "r"], rounds=3)
    assert any(share.trial for share in house.shares.values())
    house.restart(1.0)
    house.tick(1.0)
    assert _offences(house, "anna") == [0], "its witnesses are on their way"
    for account in ("judge", "ben", "anna"):
        house.connect(account, kinds=(GOOD if account == "judge" else FAULTY,))
    _submit_all(house, anna, ben, house.rigs["judge", "r"], rounds=70)

    assert {one.account for one in house.excused.values()} >= {"anna"}
    assert _offences(house, "anna", "ben") == [0, 0]


def test_the_job_waits_for_a_trial_about_a_row_that_is_done() -> None:
    """A witness's block does not go while it computes, and goes when the trial ends."""
    house = _house("cheat", "slow")
    cheat, slow = _rig(house, "cheat"), _rig(house, "slow", lies=False)
    judge = house.rigs["judge", "r"]
    house.open_job(rows=40, check_budget=BUDGET)
    _submit_all(house, cheat, judge, rounds=8)
    assert any(share.trial for share in house.shares.values())
    assert not house.jobs[1].closed
    _submit_all(house, slow, judge, cheat, rounds=30)
    house.work(judge, slow)
    house.assert_complete()


def test_witnesses_are_paid_as_checkers() -> None:
    house = _house("cheat", "honest")
    cheat, honest = _rig(house, "cheat"), _rig(house, "honest", lies=False)
    house.open_job(rows=200, check_budget=BUDGET)
    _submit_all(house, cheat, honest, house.rigs["judge", "r"])

    asked = [drawn for drawn in house.drawn.values() if drawn.by == "witness"]
    assert asked
    assert {house.ended[drawn.check].outcome for drawn in asked} <= {"guilty", "void"}
    assert any(house.ended[drawn.check].checker == "honest.r" for drawn in asked)
    assert all(c.kind != "check" or c.amount for _, c in house.credits())


def test_a_kind_in_quarantine_is_excused_without_a_trial() -> None:
    """What its rigs handed in before is nobody's offence, and nobody's pay."""
    house = _house("anna")
    house.referee = False
    anna = _rig(house, "anna")
    house.open_job(rows=200, check_budget=BUDGET)
    house.submit(anna)
    house.handle(ev.KindsQuarantined(at=house.at, kinds=frozenset({(MODEL, FAULTY)})))
    house.referee = True
    house.answer()

    assert {one.account for one in house.excused.values()} == {"anna"}
    assert _offences(house, "anna") == [0]
    assert not house.forfeits


def test_who_is_excused_stays_so_while_its_rig_is_away() -> None:
    """After a restart nobody knows its kind until it is back, and more of its rows are found."""
    house = _house("anna", "ben")
    anna, ben = _rig(house, "anna"), _rig(house, "ben")
    house.open_job(rows=400, check_budget=BUDGET)
    _submit_all(house, anna, ben, house.rigs["judge", "r"], rounds=2)
    house.referee = False
    for rig in (anna, ben):
        if rig.leases:
            house.submit(rig)
    house.referee = True
    _submit_all(house, anna, ben, house.rigs["judge", "r"], rounds=30)
    assert {one.account for one in house.excused.values()} == {"anna", "ben"}
    before = len(house.excused)
    house.referee = False
    house.restart(1.0)
    house.connect("judge", kinds=(GOOD,))
    house.referee = True
    house.answer()
    _submit_all(house, house.rigs["judge", "r"], rounds=70)

    assert _offences(house, "anna", "ben") == [0, 0]
    assert len(house.excused) >= before


@pytest.mark.parametrize("relation", ["group", "payee", "customer", "stranger"])
def test_only_strangers_are_asked(relation: str) -> None:
    """Not who stands in the same network, is paid at the same address, or brought the job."""
    house = _house("cheat", "partner", "customer")
    apart = {"group": "192.0.2.0/24"} if relation == "group" else {}
    payees = ("one",) if relation == "payee" else ()
    cheat = house.connect("cheat", kinds=(FAULTY,), payees=payees, **apart)
    name = "customer" if relation == "customer" else "partner"
    partner = house.connect(name, kinds=(FAULTY,), payees=payees, **apart)
    for rig in (cheat, partner):
        rig.lies, rig.liar = _faulty, "kind"
    house.open_job(rows=200, check_budget=BUDGET)
    house.submit(cheat)

    tried = any(share.trial for share in house.shares.values())
    assert tried is (relation == "stranger")
    assert _offences(house, "cheat") == [0 if tried else 1]


def test_idle_sybils_are_not_asked_where_an_established_rig_is() -> None:
    """Twenty of them wait for nothing else than to agree with the cheat."""
    house = _house("honest")
    house.disconnect(house.rigs["judge", "r"])
    cheat = _rig(house, "cheat")
    house.open_job(rows=4, check_budget=BUDGET)
    house.connect("judge", kinds=(GOOD,))
    for n in range(20):
        _rig(house, f"sybil{n}")
    honest = _rig(house, "honest", lies=False)
    assert cheat.leases
    house.submit(cheat)
    sybils = [house.rigs[f"sybil{n}", "r"] for n in range(20)]
    _submit_all(house, *sybils, honest, house.rigs["judge", "r"], rounds=10)

    assert not house.excused
    assert house.trust["cheat", "r"].isolated == 1


def test_a_share_on_trial_is_not_cleared_while_nobody_is_there_to_ask() -> None:
    """After a restart its witnesses are on their way for up to a minute, longer than it takes to
    clear a share of which no check is open."""
    house = _house("anna", "ben")
    anna, _ = _rig(house, "anna"), _rig(house, "ben")
    house.open_job(rows=200, check_budget=BUDGET)
    _submit_all(house, anna, house.rigs["judge", "r"], rounds=3)
    tried = [share for share in house.shares.values() if share.trial]
    assert tried
    house.restart(1.0)
    for _ in range(30):
        house.tick(1.0)

    assert {share.verdict for share in tried} == {"accepted"}

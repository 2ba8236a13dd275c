"""How shares are cut: sizes, limits, turns, and what they hold."""

from __future__ import annotations

import itertools

import pytest
from driver import MODEL, HeldLease, House, PlayedRig

from shares.blocks import Kind
from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev

OPEN = Policy(probation_shares=0, min_difficulty=100, initial_difficulty=2_000)


def _only(rig: PlayedRig) -> HeldLease:
    (lease,) = rig.leases.values()
    return lease


def _proved(house: House, account: str, **how: int) -> PlayedRig:
    """A connected rig whose first part was accepted long ago."""
    house.established(account)
    return house.connect(account, **how)


def test_the_first_share_is_the_initial_difficulty_and_stays_alone() -> None:
    """2,000 work of 100-work rows: 20 rows, and no second share before a part is accepted."""
    house = House(OPEN)
    house.open_job(rows=10_000)
    rig = house.connect("anna", credit=8)

    assert len(_only(rig).keys) == 20
    assert house.shares[_only(rig).lease].issued.difficulty == 2_000


def test_a_suggested_difficulty_is_taken_within_bounds() -> None:
    house = House(OPEN)
    house.open_job(rows=10_000)
    rig = house.connect("anna", suggested=500)
    assert rig.difficulty == 500
    assert len(_only(rig).keys) == 5

    assert rig.session is not None
    house.handle(ev.DifficultySuggested(at=house.at, session=rig.session, work=1))
    assert rig.difficulty == 100


def test_on_probation_difficulty_has_a_ceiling() -> None:
    house = House(Policy(initial_difficulty=2_000, min_difficulty=100))
    house.open_job(rows=10_000)

    assert house.connect("anna", suggested=10**9).difficulty == 8_000


@pytest.mark.parametrize("probation", [1, 3, 8])
def test_on_probation_few_shares_wait_for_verdicts(probation: int) -> None:
    """A fast newcomer cannot pile up work that the referee must compute again.

    Two shares until the first is cleared.
    """
    house = House(
        Policy(initial_difficulty=2_000, min_difficulty=100, probation_shares=probation),
        referee=False,
    )
    house.open_job(rows=10_000)
    rig = house.connect("anna", credit=8)
    for _ in range(10):
        house.at += 0.01
        if rig.leases:
            house.submit(rig)

    assert len(house.shares) == 2
    house.referee = True
    house.answer()
    assert len(house.shares) > 2, "its verdicts let it go on"


@pytest.mark.parametrize(
    ("limit", "rows"),
    [
        ({"max_share_rows": 7}, 7),
        ({"max_share_input_bytes": 4 * 16 * 5}, 5),
        ({"max_share_result_bytes": 64 * 3 + 63}, 3),
        ({"max_share_input_bytes": 1}, 1),
    ],
)
def test_a_share_keeps_every_limit_and_holds_at_least_one_row(
    limit: dict[str, int], rows: int
) -> None:
    house = House(
        Policy(probation_shares=0, min_difficulty=100, initial_difficulty=100_000, **limit)
    )
    house.open_job(rows=10_000)

    assert len(_only(house.connect("anna")).keys) == rows


def test_shares_shrink_towards_the_end() -> None:
    """Guided: a rig takes its part of half of what is left, so the last shares are small."""
    house = House(
        Policy(probation_shares=0, min_difficulty=100, initial_difficulty=10_000), referee=False
    )
    house.established("anna")
    house.established("ben")
    rigs = [house.connect("anna", credit=2), house.connect("ben", credit=2)]
    house.open_job(rows=400)
    for _ in range(30):
        house.at += 10
        for rig in rigs:
            if rig.leases:
                house.submit(rig)
    sizes = [
        sum(s.rows for s in share.issued.segments if s.kind is Kind.ROW)
        for share in house.shares.values()
    ]

    assert sum(sizes) == 400
    assert sizes[:2] == [100, 75]
    assert min(size for size in sizes if size) <= 2


def test_rows_come_from_the_front_longest_first() -> None:
    house = House(OPEN)
    house.open_job(rows=100, lengths=[row % 50 + 1 for row in range(100)])
    lease = _only(house.connect("anna"))

    assert [row for _, _, row in lease.keys] == list(range(20))
    assert house.jobs[1].blocks[0][0][0] == 50


def test_several_small_jobs_share_a_share() -> None:
    """One-row requests are not sent one by one."""
    house = House(OPEN)
    rig = house.connect("anna", model=None)
    for number in range(1, 11):
        house.open_job(number, rows=1, direct=True)
    assert rig.session is not None
    house.handle(ev.ModelStaged(at=house.at, session=rig.session, model=MODEL))

    assert {job for job, _, _ in _only(rig).keys} == set(range(1, 11))


def test_the_window_is_seconds_of_work() -> None:
    """A rig of 200 work a second gets shares until 15 s lie in its hands, whatever its credit."""
    house = House(OPEN)
    house.open_job(rows=10_000)
    rig = _proved(house, "anna", credit=50)
    for _ in range(10):
        house.at += len(next(iter(rig.leases.values())).keys) / 2
        house.submit(rig)

        view = next(iter(house.board.sessions().values()))
        assert view.rate == pytest.approx(200, rel=0.05)
        assert 15 <= view.in_hand / 200 <= 15 + 10 * 1.3


def test_one_credit_stays_free_for_direct_requests() -> None:
    house = House(OPEN)
    house.open_job(1, rows=10_000)
    rig = _proved(house, "anna", credit=2)
    assert len(rig.leases) == 1

    house.open_job(2, rows=1, direct=True)

    assert len(rig.leases) == 2
    assert list(rig.leases.values())[-1].keys == [(2, 0, 0)]


def test_direct_requests_go_first() -> None:
    house = House(OPEN)
    house.open_job(1, rows=1_000)
    house.open_job(2, rows=3, direct=True)

    assert {job for job, _, _ in _only(house.connect("anna")).keys} == {2}


def test_direct_requests_go_to_established_rigs_where_there_are_any() -> None:
    house = House(Policy(min_difficulty=100, initial_difficulty=2_000))
    proved = _proved(house, "old")
    new = house.connect("new")
    house.open_job(1, rows=30, direct=True, work=1_000)

    assert proved.leases
    assert not new.leases


def test_an_account_holds_a_quarter_while_others_could_work() -> None:
    """Its second share stops at a quarter of what is left as soon as others are there."""
    house = House(
        Policy(
            probation_shares=0, min_difficulty=100, initial_difficulty=10_000, window_seconds=1000
        )
    )
    house.established("anna")
    house.established("ben")
    anna = house.connect("anna", credit=20)
    ben = house.connect("ben", credit=20, model=None)
    house.open_job(rows=400)
    ben_session = ben.session
    assert ben_session is not None
    assert len(anna.leases) > 3, "alone it may take it all"

    house.cancel(1)
    for lease in list(anna.leases):
        house.at += 10
        house.submit(anna, lease)
    house.handle(ev.ModelStaged(at=house.at, session=ben_session, model=MODEL))
    house.open_job(2, rows=400)
    held = sum(len(lease.keys) for lease in anna.leases.values())

    assert held * 100 <= 400 * 100 // 4


def test_the_last_row_is_leased_whatever_the_quarter_says() -> None:
    house = House(OPEN)
    house.connect("anna")
    house.connect("ben")
    house.open_job(rows=1)

    assert len(house.shares) == 1


def test_a_dropped_range_is_offered_to_its_dropper_last(of) -> None:
    """Released rows go to another rig, and back to the dropper only when nothing else is left."""
    house = House(OPEN)
    house.open_job(rows=40)
    rig = house.connect("anna")
    first = _only(rig)
    assert rig.session is not None
    del rig.leases[first.lease]
    house.handle(
        ev.LeaseReleased(
            at=house.at, session=rig.session, request=1, lease=first.lease, reason="stopping"
        )
    )
    house.tick(2)
    second = _only(rig)
    assert not set(second.keys) & set(first.keys)

    house.work(rig)
    house.assert_complete()


def test_a_rig_whose_shares_come_to_nothing_rests_longer_each_time() -> None:
    """It cannot spin: 1, 2, 4 … seconds between shares."""
    house = House(OPEN)
    house.open_job(rows=1_000)
    rig = house.connect("anna")
    issued = []
    for _ in range(60):
        if rig.leases:
            lease = rig.leases.popitem()[0]
            issued.append(house.at)
            assert rig.session is not None
            house.handle(
                ev.PartMalformed(
                    at=house.at, session=rig.session, request=1, lease=lease, reason="wrong_shape"
                )
            )
        house.tick(1)

    gaps = [later - earlier for earlier, later in itertools.pairwise(issued)]
    assert gaps == [1, 2, 4, 8, 16]


def test_nothing_is_cut_while_leasing_is_paused() -> None:
    house = House(OPEN)
    house.handle(ev.LeasingPaused(at=house.at, paused=True))
    rig = house.connect("anna")
    house.open_job(rows=100)
    house.tick(1)
    assert not rig.leases

    house.handle(ev.LeasingPaused(at=house.at, paused=False))
    assert rig.leases


def test_check_rows_lie_among_the_others_by_length(of) -> None:
    """A share with check rows is ordered by length throughout, and checks are at most half."""
    house = House(
        Policy(
            probation_shares=0,
            min_difficulty=100,
            initial_difficulty=2_000,
            check_floor_ppm=1_000_000,
        ),
        reserve=10**6,
        referee=False,
    )
    house.established("ben")
    house.established("anna")
    house.open_job(rows=400, lengths=[row % 40 + 1 for row in range(400)])
    anna = house.connect("anna", credit=1)
    ben = house.connect("ben", model=None)
    house.at += 1
    house.submit(anna)  # nobody else has the model: its checks go to the referee
    assert ben.session is not None
    house.handle(ev.ModelStaged(at=house.at, session=ben.session, model=MODEL))
    house.at += 1
    house.submit(anna)
    house.at += 1
    house.submit(ben)
    lease = list(ben.leases.values())[-1]
    kinds = [s.kind for s in lease.segments for _ in range(s.rows)]
    difficulty = house.shares[lease.lease].issued.difficulty
    lengths = [int(house.jobs[j].blocks[b][0][r]) for j, b, r in lease.keys]

    assert kinds.count(Kind.CHECK) > 0
    assert kinds.count(Kind.ROW) > 0
    assert kinds.count(Kind.CHECK) * 100 <= difficulty // 2
    assert lengths == sorted(lengths, reverse=True)
    notify = of(house.log[-1], fx.Notify)
    assert notify
    assert notify[-1].segments == lease.segments

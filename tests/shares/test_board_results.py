"""Parts: accepted once, in order, whole; refused otherwise; late ones count where rows are open."""

from __future__ import annotations

import pytest
from driver import House, PlayedRig, true_digest

from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev

OPEN = Policy(probation_shares=0, min_difficulty=100, initial_difficulty=2_000)


def _start(policy: Policy = OPEN, rows: int = 100, **how: int) -> tuple[House, PlayedRig, int]:
    """A house with a job and one rig; returns the lease it holds (20 rows)."""
    house = House(policy)
    house.open_job(rows=rows, **how)
    rig = house.connect("anna")
    return house, rig, next(iter(rig.leases))


def test_an_accepted_part_is_recorded_then_paid_then_acknowledged(of) -> None:
    """Records come before the answer, with the runs it won and the price of its work."""
    house, rig, lease = _start()
    effects = house.submit(rig, lease, rows=5)

    kinds = [type(effect) for effect in effects]
    part = of(effects, fx.PartAccepted)[0]
    assert (part.part, part.first_row, part.rows) == (0, 0, 5)
    assert part.won == (fx.Won(1, 0, 0, 5, 0),)
    assert part.digests == b"".join(true_digest(1, 0, row) for row in range(5))
    (credit,) = of(effects, fx.CreditEarned)
    assert (credit.kind, credit.source, credit.work, credit.amount) == ("row", "pay", 500, 500)
    assert kinds.index(fx.PartAccepted) < kinds.index(fx.CreditEarned) < kinds.index(fx.Accepted)


def test_the_final_part_ends_the_lease(of) -> None:
    house, rig, lease = _start()
    assert not of(house.submit(rig, lease, rows=19), fx.LeaseEnded)
    effects = house.submit(rig, lease)

    assert [(e.lease, e.state, e.fault) for e in of(effects, fx.LeaseEnded)] == [
        (lease, "done", "none")
    ]


@pytest.mark.parametrize(
    ("part", "first", "rows", "final", "code", "reason"),
    [
        (0, 0, 5, False, 22, "duplicate_part"),
        (2, 5, 5, False, 20, "out_of_order"),
        (1, 4, 5, False, 20, "out_of_order"),
        (1, 6, 5, False, 20, "out_of_order"),
        (1, 5, 16, True, 20, "out_of_order"),
        (1, 5, 15, False, 20, "out_of_order"),
        (1, 5, 5, True, 20, "out_of_order"),
        (-1, 5, 5, False, 20, "out_of_order"),
    ],
)
def test_a_part_out_of_place_changes_nothing(
    of, part: int, first: int, rows: int, final: bool, code: int, reason: str
) -> None:
    """After part 0 of 5 rows in a share of 20: refused, its bytes dropped, nothing else."""
    house, rig, lease = _start()
    house.submit(rig, lease, rows=5)
    before = house.board.totals()
    effects = house.raw_submit(rig, lease, part=part, first_row=first, rows=rows, final=final)

    assert [(e.code, e.reason) for e in of(effects, fx.Refused)] == [(code, reason)]
    assert len(of(effects, fx.PayloadDropped)) == 1
    assert len(effects) == 2
    assert house.board.totals() == before


def test_a_lease_that_is_not_the_rigs_is_unknown_to_it(of) -> None:
    house, rig, lease = _start()
    other = house.connect("ben")
    for who, what in ((other, lease), (rig, lease + 1000)):
        effects = house.raw_submit(who, what, part=0, first_row=0, rows=5, final=False)

        assert [(e.code, e.reason) for e in of(effects, fx.Refused)] == [(21, "unknown_lease")]
        assert of(effects, fx.PayloadDropped)


def test_digests_that_do_not_fit_the_rows_are_a_callers_bug() -> None:
    house, rig, lease = _start()
    with pytest.raises(ValueError, match="16 bytes of digest a row"):
        house.raw_submit(rig, lease, part=0, first_row=0, rows=5, final=False, digests=b"short")

    house.board.check_invariants()


def test_a_malformed_part_ends_the_lease_and_keeps_what_was_accepted(of) -> None:
    """The rig is told why, the rows open again, the earlier part stays paid."""
    house, rig, lease = _start()
    house.submit(rig, lease, rows=5)
    assert rig.session is not None
    effects = house.handle(
        ev.PartMalformed(
            at=house.at, session=rig.session, request=7, lease=lease, reason="not_finite"
        )
    )

    assert [(e.request, e.code, e.reason) for e in of(effects, fx.Refused)] == [
        (7, 31, "not_finite")
    ]
    assert [(e.state, e.fault) for e in of(effects, fx.LeaseEnded)] == [("malformed", "rig")]
    rig.leases.pop(lease, None)
    house.tick(20)
    assert house.shares[lease].verdict == "cleared"
    house.work(rig)
    house.assert_complete()


def test_a_released_share_opens_again_and_is_void(of) -> None:
    house, rig, lease = _start()
    assert rig.session is not None
    effects = house.handle(
        ev.LeaseReleased(
            at=house.at, session=rig.session, request=3, lease=lease, reason="stopping"
        )
    )

    assert of(effects, fx.Accepted) == [fx.Accepted(rig.session, 3)]
    assert [(e.lease, e.state) for e in of(effects, fx.ShareJudged)] == [(lease, "void")]
    assert not of(effects, fx.LeaseIssued), "a rig that stops gets no new share at once"


def test_rows_that_a_rig_gave_up_and_copied_from_another_are_not_paid(of) -> None:
    """Take a share, send one row, release the rest, copy what an accomplice computed: nothing."""
    house = House(OPEN, referee=False)
    house.open_job(rows=20, check_budget=10_000)
    anna = house.connect("anna")
    lease, held = next(iter(anna.leases.items()))
    accomplice = house.connect("bob")
    house.submit(anna, lease, rows=1)
    house.handle(
        ev.LeaseReleased(at=house.at, session=anna.session, request=3, lease=lease, reason="x")
    )
    while accomplice.leases:
        house.submit(accomplice)
    anna.leases[lease] = held
    effects = house.submit(anna, lease)

    won = sum(run.stop - run.start for part in of(effects, fx.PartAccepted) for run in part.won)
    assert won < len(held.keys) - 1, "some of them are copies"
    assert [credit.kind for credit in of(effects, fx.CreditEarned)] == ["row"]


# ── deadlines ────────────────────────────────────────────────────────────────


def test_a_deadline_is_four_times_the_expected_time_and_at_least_thirty_seconds() -> None:
    """2,000 work at the assumed 200 a second: 40 s; a small one: 30 s."""
    house, _rig, lease = _start()
    issued = house.shares[lease].issued
    assert issued.deadline - issued.issued == pytest.approx(40)

    small = House(Policy(probation_shares=0, lease_factor=1))
    small.open_job(rows=10)
    small.connect("anna")
    (share,) = small.shares.values()
    assert share.issued.deadline - share.issued.issued == 30


def test_an_expired_share_opens_again_and_its_rig_gets_smaller_ones(of) -> None:
    house, rig, lease = _start()
    effects = house.tick(41)

    assert [(e.lease, e.state, e.fault) for e in of(effects, fx.LeaseEnded)] == [
        (lease, "expired", "rig")
    ]
    assert rig.difficulty == 1_000
    assert [e.reason for e in of(effects, fx.Cancel)] == ["expired"]


def test_parts_keep_a_lease_alive_but_not_for_ever(of) -> None:
    """A part every 30 s moves the deadline, to four times the first allowance at most."""
    house, rig, lease = _start()
    ended = None
    for _ in range(19):
        house.at += 30
        if lease not in rig.leases:
            ended = house.at
            break
        house.submit(rig, lease, rows=1)
        house.tick(0)

    assert ended is not None
    assert 40 * 4 <= ended - house.shares[lease].issued.issued <= 40 * 4 + 60


def test_late_results_count_where_rows_are_still_open(of) -> None:
    """The deadline passed, nobody else did the rows: they are accepted and paid."""
    house, rig, lease = _start(rows=20)
    held = rig.leases[lease]
    house.tick(41)
    rig.leases[lease] = held
    effects = house.submit(rig, lease)

    assert [c.amount for c in of(effects, fx.CreditEarned)] == [2_000]
    house.work(rig)
    house.assert_complete()


def test_late_results_of_rows_done_by_others_are_taken_and_not_paid(of) -> None:
    house, rig, lease = _start(rows=40, check_budget=10**6)
    held = rig.leases[lease]
    house.tick(41)
    ben = house.connect("ben")
    while ben.leases:
        house.at += 1
        house.submit(ben)
    rig.leases.clear()
    rig.leases[lease] = held
    effects = house.submit(rig, lease)

    assert not of(effects, fx.CreditEarned)


def test_late_rows_beat_the_rig_that_has_them_now(of) -> None:
    """First valid result wins; the newer lease is cancelled when nothing of it is wanted."""
    house, rig, lease = _start(rows=20)
    held = rig.leases[lease]
    house.disconnect(rig)
    house.tick(16)
    ben = house.connect("ben")
    assert ben.leases
    house.connect("anna")
    rig.leases = {lease: held}
    effects = house.submit(rig, lease)

    assert sum(c.amount for c in of(effects, fx.CreditEarned)) == 2_000
    assert [c.reason for c in of(effects, fx.Cancel)] == ["superseded"] * len(ben.dropped)
    assert not ben.leases
    house.work(rig, ben)
    house.assert_complete()


# ── connections ──────────────────────────────────────────────────────────────


def test_a_rig_that_comes_back_goes_on_with_its_share() -> None:
    house, rig, lease = _start()
    house.submit(rig, lease, rows=5)
    house.disconnect(rig)
    house.tick(14)
    house.connect("anna")
    house.submit(rig, lease)

    assert house.shares[lease].state == "done"


def test_a_rig_that_stays_away_loses_its_share_to_the_networks_fault(of) -> None:
    house, rig, lease = _start()
    house.disconnect(rig)
    assert not of(house.tick(14), fx.LeaseEnded)
    effects = house.tick(2)

    assert [(e.lease, e.state, e.fault) for e in of(effects, fx.LeaseEnded)] == [
        (lease, "expired", "network")
    ]


def test_a_rig_that_lost_its_shares_gives_them_back_at_once() -> None:
    """A new process of the same rig says so: nobody waits for the deadline."""
    house, rig, lease = _start()
    house.disconnect(rig)
    house.connect("anna", resumed=False)

    assert house.shares[lease].state == "released"
    assert house.shares[lease].fault == "network"
    assert rig.leases, "and gets a new one"


def test_a_second_connection_of_a_rig_replaces_the_first(of) -> None:
    house, rig, lease = _start()
    old = rig.session
    house.connect("anna")

    replaced = [e for effects in house.log for e in of(effects, fx.Disconnect)]
    assert [(e.session, e.reason) for e in replaced] == [(old, "replaced")]
    house.submit(rig, lease)
    assert house.shares[lease].state == "done"
    assert old is not None
    assert house.handle(ev.SessionClosed(at=house.at, session=old)) == []


def test_names_that_did_nothing_are_forgotten() -> None:
    house = House()
    for number in range(50):
        house.disconnect(house.connect("anna", f"rig{number}"))

    assert house.board.trust("anna", "rig3") is None


# ── vardiff in use ───────────────────────────────────────────────────────────


def test_difficulty_follows_the_measured_speed_and_is_announced(of) -> None:
    """At 800 work a second: 2,000, then 8,000 (within the band for 10 s)."""
    house, rig, _lease = _start(rows=10_000)
    seen = [rig.difficulty]
    for _ in range(6):
        held = next(iter(rig.leases.values()))
        house.at += len(held.keys) * 100 / 800
        effects = house.submit(rig, held.lease)
        if rig.difficulty != seen[-1]:
            seen.append(rig.difficulty)
            assert [e.work for e in of(effects, fx.SetDifficulty)] == [rig.difficulty]

    assert seen == [2_000, pytest.approx(8_000, rel=0.01)]


def test_a_rig_that_failed_is_believed_half_as_fast() -> None:
    house, rig, lease = _start(rows=10_000)
    house.at += 10
    house.submit(rig, lease)
    (before,) = house.board.sessions().values()
    house.tick(1_000)
    (after,) = house.board.sessions().values()

    expired = sum(share.state == "expired" for share in house.shares.values())
    assert expired > 0
    assert before.rate is not None
    assert after.rate == pytest.approx(before.rate / 2**expired)


def test_a_share_keeps_the_difficulty_of_its_issue() -> None:
    house, rig, _ = _start(rows=10_000)
    for _ in range(4):
        held = next(iter(rig.leases.values()))
        house.at += len(held.keys) * 100 / 800
        house.submit(rig, held.lease)

    issued = [share.issued for share in house.shares.values()]
    assert issued[0].difficulty == 2_000
    assert issued[-1].difficulty == rig.difficulty
    assert all(one.work <= one.difficulty for one in issued)


def test_speed_is_measured_in_busy_time_under_pipelining() -> None:
    """With three shares in hand the rate is work over time, not three times less."""
    house = House(OPEN)
    house.open_job(rows=100_000)
    house.established("anna")
    rig = house.connect("anna", credit=10)
    for _ in range(15):
        held = next(iter(rig.leases.values()))
        house.at += len(held.keys) * 100 / 500
        house.submit(rig, held.lease)
    house.at += 1000  # idle time does not count
    (view,) = house.board.sessions().values()

    assert view.leases > 1
    assert view.rate == pytest.approx(500, rel=0.02)


def test_the_pools_own_stall_moves_deadlines(of) -> None:
    """What the pool kept waiting is not the rig's delay; after it the deadline holds again."""
    house = House()
    rig = house.connect("ann")
    house.open_job(rows=10)
    (lease,) = rig.leases
    for _ in range(200):
        house.at += 1.0
        house.handle(ev.Tick(at=house.at, stalled=1.0))

    assert house.shares[lease].state == "open"
    assert of(house.tick(10_000.0), fx.LeaseEnded)[0].state == "expired"

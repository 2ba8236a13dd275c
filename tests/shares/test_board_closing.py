"""A miner's account is closed while its rigs are at work."""

from __future__ import annotations

from driver import House, PlayedRig

from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev

SMALL = Policy(min_difficulty=100, initial_difficulty=2_000)


def _close(house: House, account: str = "anna") -> list[fx.Effect]:
    return house.handle(ev.AccountClosed(at=house.at, account=account))


def _two_rigs() -> tuple[House, PlayedRig, PlayedRig]:
    """One rig of Anna's holds shares, the other has nothing."""
    house = House(SMALL)
    house.established("anna", "busy")
    house.established("anna", "idle")
    idle = house.connect("anna", "idle", model=None)
    house.open_job(rows=1_000)
    return house, house.connect("anna", "busy"), idle


def test_a_share_that_was_leased_before_the_closing_was_seen_is_paid(of) -> None:
    """It is finished like any other; then its rig leaves, with what it did acknowledged."""
    house, busy, _ = _two_rigs()
    held = list(busy.leases)
    assert len(held) > 1
    _close(house)
    assert busy.session is not None
    for lease in held[:-1]:
        house.submit(busy, lease)
        assert busy.session is not None
    effects = house.submit(busy, held[-1])

    kinds = [type(effect) for effect in effects]
    assert kinds.index(fx.Accepted) < kinds.index(fx.Disconnect)
    assert busy.reasons == ["closed_account"]
    house.tick(11)
    assert {share.verdict for share in house.shares.values()} == {"cleared"}
    assert len(house.shares) == len(held), "nothing more was leased to it"


def test_idle_rigs_of_a_closed_account_leave_at_once() -> None:
    house, busy, idle = _two_rigs()
    _close(house)

    assert idle.reasons == ["closed_account"]
    assert busy.reasons == []


def test_a_rig_of_a_closed_account_that_is_silent_expires() -> None:
    house, busy, _ = _two_rigs()
    _close(house)
    for _ in range(400):
        house.tick(1)
        if busy.session is None:
            break

    assert busy.reasons == ["closed_account"]
    house.tick(61)  # late parts are waited for, as of any lease
    assert {(share.state, share.verdict) for share in house.shares.values()} == {
        ("expired", "void")
    }
    house.work(house.connect("zoe"))
    house.assert_complete()


def test_a_rig_of_a_closed_account_that_is_gone_loses_its_shares_after_the_grace() -> None:
    house, busy, _ = _two_rigs()
    _close(house)
    house.disconnect(busy)
    house.tick(16)

    assert {share.fault for share in house.shares.values()} == {"network"}


def test_other_accounts_go_on() -> None:
    house, _, _ = _two_rigs()
    zoe = house.connect("zoe")
    _close(house)
    house.work(zoe, house.rigs["anna", "busy"])

    house.assert_complete()
    assert zoe.reasons == []

"""Probation: work of a model that was checked in full, before the model's rows are sampled."""

from __future__ import annotations

from driver import MODEL, House, PlayedRig

from shares.board import Policy
from shares.board import effects as fx
from shares.board import events as ev

LIGHT = "b" * 64
SMALL = Policy(
    probation_shares=3, min_difficulty=100, initial_difficulty=1_000, check_floor_ppm=10_000
)


def _stage(house: House, rig: PlayedRig, model: str) -> None:
    assert rig.session is not None
    house.handle(ev.ModelStaged(at=house.at, session=rig.session, model=model))


def _run(house: House, rig: PlayedRig, job: int) -> None:
    for _ in range(200):
        house.at += 1
        while rig.leases:
            house.submit(rig)
        house.tick(0)
        if house.jobs[job].closed:
            return
    raise AssertionError("the job is not over")


def _proved(house: House, account: str = "anna") -> dict[str, int]:
    return dict(house.trust[account, "r"].proved)


def test_shares_of_a_light_model_earn_no_standing_for_another(of) -> None:
    """Much was done of one model: the first share of the next one is checked in full."""
    house = House(SMALL)
    anna = house.connect("anna", model=LIGHT)
    house.open_job(1, rows=20_000, work=1, model=LIGHT)
    _run(house, anna, 1)
    assert _proved(house) == {LIGHT: 20_000}
    house.open_job(2, rows=100, model=LIGHT)
    (light,) = of(house.submit(anna), fx.PartAccepted)
    assert light.check_rate_ppm < 1_000_000
    _run(house, anna, 2)
    _stage(house, anna, MODEL)
    house.open_job(3, rows=100)
    (first,) = of(house.submit(anna), fx.PartAccepted)

    assert first.check_rate_ppm == 1_000_000
    _run(house, anna, 3)
    assert _proved(house)[MODEL] == 10_000
    house.open_job(4, rows=100)
    (later,) = of(house.submit(anna), fx.PartAccepted)
    assert later.check_rate_ppm < 1_000_000


def test_a_rig_established_with_another_model_does_not_check() -> None:
    house = House(Policy(min_difficulty=100, initial_difficulty=2_000, check_floor_ppm=1_000_000))
    house.established("anna")
    house.established("ben")
    (light,) = [(LIGHT, work) for _, work in house.trust["ben", "r"].proved]
    house.trust["ben", "r"] = _with(house.trust["ben", "r"], (light,))
    house.restart()
    anna, ben = house.connect("anna"), house.connect("ben")
    _stage(house, ben, LIGHT)
    house.open_job(rows=60, check_budget=10**6)
    house.work(anna, ben)

    assert {ended.checker for ended in house.ended.values()} <= {"anna.r", "referee"}


def test_tiny_shares_do_not_add_up_to_standing(of) -> None:
    """Eight shares of a row each are not the work of three first shares."""
    house = House(SMALL)
    anna = house.connect("anna")
    for job in range(1, 9):
        house.open_job(job, rows=1, direct=True)
        _run(house, anna, job)
    assert house.trust["anna", "r"].cleared_shares == 8
    assert _proved(house) == {MODEL: 800}
    house.open_job(9, rows=100)
    (part,) = of(house.submit(anna), fx.PartAccepted)

    assert part.check_rate_ppm == 1_000_000


def test_shares_of_a_new_model_start_small_for_a_fast_rig() -> None:
    """Its difficulty is what vardiff says; of a model that it never did it gets a first share."""
    house = House(SMALL)
    house.established("anna")
    house.trust["anna", "r"] = _with(house.trust["anna", "r"], ((LIGHT, 10**9),))
    house.restart()
    anna = house.connect("anna", suggested=10**6)
    assert anna.difficulty == 10**6
    house.open_job(rows=10_000)
    works = [share.issued.work for share in house.shares.values()]

    assert works == [SMALL.probation_ceiling]


def test_what_is_proved_survives_a_restart_and_ends_with_an_offence() -> None:
    house = House(SMALL)
    anna = house.connect("anna")
    house.open_job(1, rows=100)
    _run(house, anna, 1)
    house.restart()
    view = house.board.trust("anna", "r")
    assert view is not None
    assert view.established
    anna = house.connect("anna")
    anna.lies = lambda key: True
    house.open_job(2, rows=2_000)
    for _ in range(50):
        house.at += 1
        while anna.leases:
            house.submit(anna)
        house.tick(0)

    assert house.trust["anna", "r"].offences == 1
    assert _proved(house) == {}


def test_a_miners_own_jobs_prove_nothing() -> None:
    house = House(SMALL)
    anna = house.connect("anna")
    house.open_job(1, rows=100, account="anna")
    _run(house, anna, 1)

    assert _proved(house) == {}


def _with(record: fx.TrustChanged, proved: tuple[tuple[str, int], ...]) -> fx.TrustChanged:
    values = {name: getattr(record, name) for name in record.__slots__}
    return fx.TrustChanged(**{**values, "proved": proved})

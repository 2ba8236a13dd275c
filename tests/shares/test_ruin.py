"""Lundberg's inequality bounds how often a reserve is really exhausted."""

from __future__ import annotations

import math
import random

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from shares.money.examplelog import example_log
from shares.money.measures import risk
from shares.money.ruin import adjustment_coefficient, reserve_for, ruin_bound

TERMS = {"chance": 0.02, "loss": 50.0, "income": 1.5}


def simulated_ruin(reserve: int, *, chance: float, loss: float, income: float) -> float:
    """The fraction of 4,000 reserves that are below zero at some time within 3,000 shares."""
    draws = np.random.default_rng(5).random((4_000, 3_000)) < chance
    walk = np.cumsum(np.where(draws, income - loss, income), axis=1)
    return float((walk.min(axis=1) < -reserve).mean())


@pytest.mark.parametrize("reserve", [0, 50, 150, 300])
def test_the_bound_holds_and_is_not_far_off(reserve: int) -> None:
    """Over the best-known factor: a loss takes the reserve up to ``loss`` units below zero."""
    bound = ruin_bound(reserve, **TERMS)
    found = simulated_ruin(reserve, **TERMS)
    theta = adjustment_coefficient(**TERMS)

    assert theta is not None
    assert found <= bound
    assert found >= bound * math.exp(-theta * 50) * 0.8


def test_ruin_is_certain_where_the_expected_loss_is_not_below_the_income() -> None:
    assert ruin_bound(10**12, chance=0.02, loss=50.0, income=1.0) == 1.0
    assert ruin_bound(10**12, chance=0.02, loss=50.0, income=0.5) == 1.0
    with pytest.raises(ValueError, match="no reserve is enough"):
        reserve_for(0.01, chance=0.02, loss=50.0, income=1.0)


def test_what_cannot_lose_cannot_be_ruined() -> None:
    assert ruin_bound(0, chance=0.0, loss=50.0, income=0.0) == 0.0
    assert ruin_bound(0, chance=0.5, loss=2.0, income=2.0) == 0.0
    assert reserve_for(1e-9, chance=0.0, loss=50.0, income=0.0) == 0


def test_without_a_reserve_nothing_is_promised() -> None:
    assert ruin_bound(0, **TERMS) == 1.0


@given(
    chance=st.floats(1e-6, 0.5),
    loss=st.floats(1.0, 1e9),
    spare=st.floats(1.001, 100.0),
    bound=st.floats(1e-12, 0.9),
)
def test_the_needed_reserve_is_the_inverse_of_the_bound(
    chance: float, loss: float, spare: float, bound: float
) -> None:
    """Enough, and one part in a million less is not (a unit less, where units are coarse)."""
    income = chance * loss * spare
    needed = reserve_for(bound, chance=chance, loss=loss, income=income)

    assert ruin_bound(needed, chance=chance, loss=loss, income=income) <= bound * (1 + 1e-9)
    less = needed - max(1, needed // 1_000_000)
    if less >= 0:
        assert ruin_bound(less, chance=chance, loss=loss, income=income) > bound * (1 - 1e-9)


@given(chance=st.floats(1e-4, 0.5), loss=st.floats(1.0, 1e6), spare=st.floats(1.01, 20.0))
def test_the_coefficient_solves_lundbergs_equation(
    chance: float, loss: float, spare: float
) -> None:
    income = chance * loss * spare
    theta = adjustment_coefficient(chance=chance, loss=loss, income=income)

    assert theta is not None
    if not math.isinf(theta):
        assert theta > 0
        terms = (1 - chance) * math.exp(-theta * income), chance * math.exp(theta * (loss - income))
        assert sum(terms) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"chance": 1.5}, "chance must be between 0 and 1"),
        ({"loss": -1.0}, "loss must be a number of units"),
        ({"income": math.nan}, "income must be a number of units"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ruin_bound(1, **(TERMS | wrong))
    with pytest.raises(ValueError, match="reserve must not be negative"):
        ruin_bound(-1, **TERMS)
    with pytest.raises(ValueError, match="bound must be above 0"):
        reserve_for(0.0, **TERMS)


def test_losses_of_any_size_are_bounded_by_those_of_the_largest() -> None:
    """As the lab takes them from a log: same mean loss, all of it in the largest size."""
    log = example_log(3)
    terms = risk(log, 30_000)
    assert terms is not None
    sizes = [share.units for share in log.shares]
    rejected = [0 if share.cleared else share.units for share in log.shares]
    assert terms.chance * terms.loss == pytest.approx(sum(rejected) / len(rejected))
    assert terms.loss == max(sizes)

    # Drawn anew from the log's own losses, with an income that leaves room.
    income, reserve = 2 * terms.chance * terms.loss, 4 * terms.loss
    bound = ruin_bound(reserve, chance=terms.chance, loss=terms.loss, income=income)
    draw = random.Random(11)
    ruined = 0
    for _ in range(300):
        left = float(reserve)
        for loss in draw.choices(rejected, k=2_000):
            left += income - loss
            if left < 0:
                ruined += 1
                break
    assert ruined / 300 <= bound

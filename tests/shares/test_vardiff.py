"""Vardiff: the meter and the next difficulty."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from shares.policy import Policy
from shares.vardiff import Meter, clamp, retarget

POLICY = Policy()
CEILING = POLICY.max_difficulty


def test_the_first_sample_is_the_rate() -> None:
    meter = Meter()
    assert meter.rate is None

    meter.add(500, 2.0, memory=60)

    assert meter.rate == 250


def test_samples_weigh_by_their_time() -> None:
    """A burst of parts that arrive together does not double the speed."""
    meter = Meter()
    meter.add(1000, 10.0, memory=60)
    meter.add(1000, 0.0, memory=60)

    assert meter.rate == pytest.approx(200, rel=1e-3)


def test_the_past_is_forgotten_after_its_memory() -> None:
    meter = Meter()
    for _ in range(10):
        meter.add(1000, 10.0, memory=60)
    for _ in range(40):
        meter.add(4000, 10.0, memory=60)

    assert meter.rate == pytest.approx(400, rel=0.01)


def test_difficulty_stays_within_the_dead_band() -> None:
    """A target 25 % away changes nothing, one 50 % away does."""
    assert retarget(10_000, 1_250, CEILING, POLICY) == 10_000
    assert retarget(10_000, 1_500, CEILING, POLICY) == 15_000
    assert retarget(10_000, 500, CEILING, POLICY) == 5_000


def test_jumps_are_capped_at_four() -> None:
    assert retarget(10_000, 10**6, CEILING, POLICY) == 40_000
    assert retarget(100_000, 1, CEILING, POLICY) == 25_000


@given(st.integers(1_000, 1 << 40), st.floats(1e-3, 1e12), st.integers(1_000, 1 << 40))
def test_difficulty_is_always_within_bounds(current: int, rate: float, ceiling: int) -> None:
    found = retarget(current, rate, ceiling, POLICY)

    assert POLICY.min_difficulty <= found <= max(POLICY.min_difficulty, ceiling)
    assert found == clamp(found, ceiling, POLICY)


@given(st.floats(200, 1e9))
def test_a_steady_rig_settles(rate: float) -> None:
    """From the initial difficulty a share takes the target time, within the dead band."""
    difficulty = POLICY.initial_difficulty
    for _ in range(20):
        difficulty = retarget(difficulty, rate, CEILING, POLICY)

    seconds = difficulty / rate
    assert 10 / 1.3 - 0.01 <= seconds <= 10 / 0.7 + 0.01


def test_a_policy_that_makes_no_sense_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="initial_difficulty must lie between"):
        Policy(initial_difficulty=10, min_difficulty=100)
    with pytest.raises(ValueError, match="kappa must be at least 1"):
        Policy(kappa=0)
    with pytest.raises(ValueError, match="check_floor_ppm must be between"):
        Policy(check_floor_ppm=2_000_000)
    with pytest.raises(ValueError, match="lease_factor must be above 0"):
        Policy(lease_factor=0)
    with pytest.raises(ValueError, match="max_open_blocks"):
        Policy(max_open_blocks=1)


def test_the_minimum_hold_is_kappa_over_rho() -> None:
    """2 / 0.1 % = 2,000 average rows."""
    assert POLICY.minimum_hold_rows == 2_000

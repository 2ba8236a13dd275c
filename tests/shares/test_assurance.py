"""What an assurance asks for, and the checking that makes its claim true."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shares.policy import PPM
from shares.trust.assurance import (
    Assurance,
    AssuranceError,
    broken_by,
    claim_ppm,
    parse_assurance,
)


def test_full_checks_every_row_of_any_job() -> None:
    assert parse_assurance("full").rate_ppm(1) == parse_assurance("full").rate_ppm(10**8) == PPM


def test_trusted_asks_for_rigs_and_for_no_more_checking() -> None:
    found = parse_assurance("trusted")

    assert found.trusted
    assert not found.full
    assert found.rate_ppm(1_000) == 0


def test_no_assurance_asks_for_nothing() -> None:
    assert Assurance().rate_ppm(1_000) == 0


@pytest.mark.parametrize(
    ("claim", "rows", "ppm"),
    [
        # k = 1: q = P.
        ("0.999/0.001", 999, 999_000),
        ("0.999/0", 1_000_000, 999_000),
        # k = 2: q = 1 - sqrt(0.001) = 0.96837722…
        ("0.999/0.001", 1_000, 968_378),
        # k = 11: q = 1 - 0.001^(1/11) = 0.46633007…
        ("0.999/0.001", 10_000, 466_331),
        # k = 1001: q = 1 - 0.001^(1/1001) = 0.00687710…
        ("0.999/0.001", 1_000_000, 6_878),
        # k = 100001: q = 0.0000690748…
        ("0.999/0.001", 100_000_000, 70),
        # k = 6: q = 1 - 0.1^(1/6) = 0.31870793…
        ("0.9/0.05", 100, 318_708),
    ],
)
def test_rates_are_those_of_the_formula(claim: str, rows: int, ppm: int) -> None:
    assert parse_assurance(claim).rate_ppm(rows) == ppm


@given(
    st.fractions(min_value=Fraction(1, 1000), max_value=Fraction(999_999, 10**6)),
    st.integers(1, 10**7),
)
def test_the_rate_is_the_least_that_keeps_the_claim(probability: Fraction, wrong: int) -> None:
    """Within what float64 can tell."""
    rate = claim_ppm(probability, wrong)

    assert 1 <= rate <= PPM
    exact = -float(np.expm1(np.log1p(-float(probability)) / wrong)) * PPM
    assert exact * (1 - 1e-9) <= rate <= exact * (1 + 1e-9) + 1


@given(st.fractions(min_value=0, max_value=Fraction(999, 1000)), st.integers(1, 10**8))
def test_a_claim_is_broken_by_the_first_row_above_its_fraction(
    fraction: Fraction, rows: int
) -> None:
    wrong = broken_by(fraction, rows)

    assert Fraction(wrong, rows) > fraction >= Fraction(wrong - 1, rows)


@pytest.mark.parametrize(("claim", "rows"), [("0.9/0.02", 500), ("0.99/0.1", 200)])
def test_jobs_that_break_the_claim_are_found_as_often_as_was_bought(claim: str, rows: int) -> None:
    """20,000 jobs with the fewest false rows that break it, each row drawn by itself."""
    found = parse_assurance(claim)
    random = np.random.default_rng(20_001)
    wrong = broken_by(found.fraction, rows)
    drawn = random.random((20_000, wrong)) < found.rate_ppm(rows) / PPM

    caught = drawn.any(axis=1).mean()
    probability = float(found.probability)
    error = (probability * (1 - probability) / 20_000) ** 0.5
    assert abs(caught - probability) < 4 * error


@pytest.mark.parametrize(
    "text",
    [
        *("", "most", "Full", "0.999", "0.999/", "/0.001", "a/b", "0.9/0.1/0.1", "1e-3/0.1"),
        *("-0.9/0.1", "nan/0.1", "0.9 /0.1", "٠.٩/0.1", "0.9999999999/0.1", "./."),
        "0." + "9" * 50 + "/0.1",
    ],
)
def test_what_cannot_be_read_is_refused_with_the_field_and_examples(text: str) -> None:
    with pytest.raises(AssuranceError, match=r"^metadata\.assurance is .*: write \"full\""):
        parse_assurance(text)


@pytest.mark.parametrize("text", ["1/0.1", "0/0.1", "1.5/0.1"])
def test_a_probability_is_between_none_and_certainty(text: str) -> None:
    with pytest.raises(AssuranceError, match=r'must lie between 0 and 1.*write "full"'):
        parse_assurance(text)


@pytest.mark.parametrize("text", ["0.9/1", "0.9/2"])
def test_a_fraction_below_one_is_asked_for(text: str) -> None:
    with pytest.raises(AssuranceError, match="fraction of false rows must be at least 0"):
        parse_assurance(text)

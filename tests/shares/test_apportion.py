"""Dividing units in proportion: every unit once, in no order, and fractions are not lost."""

from __future__ import annotations

from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shares.money.apportion import PARTS, apportion, close_out

KEY = b"round 7"
NAMES = [f"m{n}" for n in range(6)]
WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 10**12), min_size=1).filter(
    lambda weights: any(weights.values())
)


def at_once(total: int, weights: dict[str, int], key: bytes = KEY) -> dict[str, int]:
    """One round and no other: Hamilton's method."""
    found = apportion(total, weights, {}, key)
    rest = close_out(found.carried, key)
    assert sum(rest.values()) == found.kept
    return {name: units + rest.get(name, 0) for name, units in found.units.items()}


def test_the_published_vector() -> None:
    """As open-ethereum-pool divides a block's reward."""
    weights = {"a": 1_000_000, "b": 20_000, "c": 5_000, "d": 10, "e": 1}

    assert at_once(5_000_000_000, weights) == {
        "a": 4_877_996_431,
        "b": 97_559_929,
        "c": 24_389_982,
        "d": 48_780,
        "e": 4_878,
    }


@given(total=st.integers(0, 10**15), weights=WEIGHTS)
def test_every_unit_goes_to_somebody_and_nobody_is_a_unit_off(
    total: int, weights: dict[str, int]
) -> None:
    found = at_once(total, weights)
    whole = sum(weights.values())

    assert sum(found.values()) == total
    for name, units in found.items():
        assert abs(units - Fraction(total * weights[name], whole)) < 1


@given(total=st.integers(0, 10**15), weights=WEIGHTS)
def test_a_round_pays_whole_units_and_keeps_what_backs_the_fractions(
    total: int, weights: dict[str, int]
) -> None:
    found = apportion(total, weights, {}, KEY)
    whole = sum(weights.values())

    assert sum(found.units.values()) + found.kept == total
    assert sum(found.carried.values()) == found.kept * PARTS
    for name, units in found.units.items():
        assert 0 <= found.carried[name] < PARTS
        exact = Fraction(total * weights[name], whole)
        assert abs(units + Fraction(found.carried[name], PARTS) - exact) < Fraction(1, PARTS)


@given(
    total=st.integers(0, 10**9),
    weights=WEIGHTS,
    order=st.permutations(NAMES),
)
def test_the_order_does_not_matter(total: int, weights: dict[str, int], order: list[str]) -> None:
    again = {name: weights[name] for name in order if name in weights}

    assert apportion(total, again, {}, KEY) == apportion(total, weights, {}, KEY)
    assert at_once(total, again) == at_once(total, weights)


def test_ties_are_broken_by_the_key_and_not_by_the_name() -> None:
    weights = dict.fromkeys(NAMES, 1)
    winners = {
        next(name for name, units in at_once(1, weights, bytes([key])).items() if units)
        for key in range(100)
    }

    assert winners == set(NAMES)


ROUNDS = st.lists(st.tuples(st.integers(0, 1_000), WEIGHTS), min_size=1, max_size=40)


@settings(max_examples=60)
@given(rounds=ROUNDS)
def test_whoever_comes_and_goes_has_the_whole_units_that_it_earned(
    rounds: list[tuple[int, dict[str, int]]],
) -> None:
    """What is carried is what was earned and not got, to the part of a unit that is counted."""
    carried: dict[str, int] = {}
    earned = dict.fromkeys(NAMES, Fraction())
    got = dict.fromkeys(NAMES, 0)
    kept = 0
    for number, (total, weights) in enumerate(rounds):
        found = apportion(total, weights, carried, bytes([number]))
        assert sum(found.units.values()) + found.kept == total
        assert all(units >= 0 for units in found.units.values())
        carried = found.carried
        kept += found.kept
        assert sum(carried.values()) == kept * PARTS
        whole = sum(weights.values())
        for name, units in found.units.items():
            got[name] += units
            earned[name] += Fraction(total * weights[name], whole)
    dust = Fraction(len(rounds), PARTS)
    for name in NAMES:
        assert -dust <= earned[name] - got[name] < 1 + dust
        owed = Fraction(carried.get(name, 0), PARTS)
        assert abs(earned[name] - got[name] - owed) <= dust


@settings(max_examples=80)
@given(
    totals=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    mine=st.integers(1, 1_000),
    others=st.lists(st.integers(1, 1_000), min_size=1, max_size=4),
    pieces=st.integers(2, 8),
    fresh=st.booleans(),
)
def test_splitting_an_account_gains_at_most_a_unit_over_its_lifetime(
    totals: list[int], mine: int, others: list[int], pieces: int, *, fresh: bool
) -> None:
    """Into however many accounts, and even if it opens new ones for each round."""
    rest = {f"o{n}": pieces * weight for n, weight in enumerate(others)}

    def lifetime(own: list[dict[str, int]]) -> int:
        carried: dict[str, int] = {}
        units = 0
        for number, total in enumerate(totals):
            found = apportion(total, own[number] | rest, carried, bytes([number]))
            carried = found.carried
            units += sum(found.units[name] for name in own[number])
        return units

    whole = lifetime([{"me": pieces * mine}] * len(totals))
    split = lifetime(
        [
            {f"me{n}.{number if fresh else 0}": mine for n in range(pieces)}
            for number in range(len(totals))
        ]
    )

    assert split - whole <= 1


def test_many_new_accounts_that_would_all_be_rounded_up_gain_nothing() -> None:
    """Ten accounts due 0.6 of a unit each, in each of fifty rounds, and never seen again."""
    honest = {f"o{n}": 4 for n in range(10)}
    carried: dict[str, int] = {}
    split = 0
    for number in range(50):
        mine = {f"m{number}.{n}": 6 for n in range(10)}
        found = apportion(10, mine | honest, carried, KEY)
        carried = found.carried
        split += sum(found.units[name] for name in mine)

    assert split == 0


def test_fractions_become_units_and_what_was_kept_pays_them() -> None:
    first = apportion(1, {"a": 1, "b": 1}, {}, KEY)
    second = apportion(1, {"a": 1, "b": 1}, first.carried, KEY)

    assert (first.units, first.kept) == ({"a": 0, "b": 0}, 1)
    assert (second.units, second.kept) == ({"a": 1, "b": 1}, -1)
    assert not any(second.carried.values())


@settings(max_examples=60)
@given(rounds=ROUNDS)
def test_closing_gives_out_all_that_was_kept(rounds: list[tuple[int, dict[str, int]]]) -> None:
    carried: dict[str, int] = {}
    kept = 0
    for total, weights in rounds:
        found = apportion(total, weights, carried, KEY)
        carried, kept = found.carried, kept + found.kept
    last = close_out(carried, KEY)

    assert sum(last.values()) == kept
    assert set(last.values()) <= {1}


def test_fractions_of_which_some_are_missing_cannot_be_closed() -> None:
    with pytest.raises(ValueError, match="give those of all accounts"):
        close_out({"a": PARTS // 2}, KEY)


@pytest.mark.parametrize(
    ("total", "weights", "said"),
    [
        (-1, {"a": 1}, "total must not be negative"),
        (1, {"a": -1, "b": 2}, "a weight is negative"),
        (1, {"a": 0}, "nobody to divide among"),
        (1, {}, "nobody to divide among"),
    ],
)
def test_what_cannot_be_divided_is_refused(total: int, weights: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        apportion(total, weights, {}, KEY)


def test_a_negative_fraction_is_refused() -> None:
    with pytest.raises(ValueError, match="a carried fraction is negative"):
        apportion(1, {"a": 1}, {"b": -1}, KEY)

"""The rules of money: every posting balances, every price and share of it adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shares.money import due, posting, price_of

units = st.integers(min_value=0, max_value=10**15)
job = st.integers(min_value=1, max_value=10**6)
name = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)
rig = st.builds("{}.{}".format, name, name)
rigs = st.dictionaries(rig, units, max_size=4)
source = st.sampled_from(["pay", "check", "reserve"])

POSTINGS = st.one_of(
    st.builds(posting.deposited, name, units),
    st.builds(posting.reserved, name, job, pay=units, check=units, fee=units),
    st.builds(posting.accepted, job, source, rigs),
    st.builds(posting.returned, job, source, rigs),
    st.builds(posting.cleared, rigs),
    st.builds(posting.forfeited, rigs),
    st.builds(posting.forfeited_at_source, job, source, units),
    st.builds(posting.refilled, job, units),
    st.builds(posting.held_forfeited, rig, units),
    st.builds(posting.fee_earned, job, units),
    st.builds(posting.referee_charged, job, units),
    st.builds(posting.completed, name, job, pay=units, check=units, fee=units),
    st.builds(posting.completed, name, job, pay=units, check=units, fee=units, unused=units),
    st.builds(posting.swept, units),
    st.builds(posting.released, name, rig, units),
)


@given(entries=POSTINGS)
def test_every_posting_adds_up_to_zero(entries: posting.Entries) -> None:
    assert sum(amount for _, amount in entries) == 0


@given(entries=POSTINGS)
def test_a_posting_names_a_code_once_and_moves_something(entries: posting.Entries) -> None:
    codes = [code for code, _ in entries]

    assert len(codes) == len(set(codes))
    assert all(amount for _, amount in entries)


@given(job=job, source=source, rigs=rigs)
def test_returning_undoes_accepting(job: int, source: str, rigs: dict[str, int]) -> None:
    there = dict(posting.accepted(job, source, rigs))
    back = dict(posting.returned(job, source, rigs))

    assert {code: -amount for code, amount in there.items()} == back


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="pay, check or reserve"):
        posting.accepted(1, "bank", {"a.b": 1})


def test_a_price_is_work_plus_levy_plus_fee_rounded_up() -> None:
    price = price_of(101, unit=3, levy_ppm=30_000, fee_ppm=20_000)

    assert (price.pay, price.check, price.fee, price.total) == (303, 10, 7, 320)


@pytest.mark.parametrize("field", ["unit", "levy_ppm", "fee_ppm"])
def test_a_negative_price_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must not be negative"):
        price_of(1, **{"unit": 1, "levy_ppm": 1, "fee_ppm": 1, field: -1})


@given(total=st.integers(0, 10**12), steps=st.lists(st.integers(0, 10**9), max_size=20))
def test_a_fee_posted_bit_by_bit_adds_up(total: int, steps: list[int]) -> None:
    """Whatever the steps, no step takes anything back and the last one makes it whole."""
    of = sum(steps)
    done = posted = 0
    for step in steps:
        done += step
        part = due(total, done, of) - posted
        assert part >= 0
        posted += part

    assert posted == (total if of else 0)


def test_more_than_everything_cannot_be_due() -> None:
    with pytest.raises(ValueError, match="between 0 and 10"):
        due(5, 11, 10)

"""The draw: rates in integers, and which rows they take."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from shares.trust.sampling import CHECK, REFEREE, draw, least_of, rate_ppm
from shares.trust.standing import Standing

KEY = bytes(range(32))
DIGEST = hashlib.blake2b(b"part", digest_size=32).digest()


def _rows(
    purpose: str,
    works: list[int],
    rate: int,
    *,
    lease: int = 7,
    part: int = 0,
    row_work: int | None = None,
) -> set[int]:
    """The draw; without ``row_work`` the rig's ordinary row is the mean of these."""
    mean = sum(works) * 1_000 // len(works) if row_work is None else row_work
    return set(draw(KEY, purpose, lease, part, DIGEST, np.array(works, np.int64), rate, mean))


def test_who_holds_nothing_is_sampled_in_full() -> None:
    assert rate_ppm(0, 1, 100_000, 2, 10_000) == 1_000_000
    assert rate_ppm(50, 1, 100_000, 2, 10_000) == 1_000_000


def test_the_rate_follows_the_held_pay() -> None:
    """Pay of 50 average rows: 2/50 = 4 %; of 10,000: the floor."""
    assert rate_ppm(50 * 100, 1, 100_000, 2, 10_000) == 40_000
    assert rate_ppm(50 * 300, 3, 100_000, 2, 10_000) == 40_000
    assert rate_ppm(10_000 * 100, 1, 100_000, 2, 10_000) == 10_000
    assert rate_ppm(10_000 * 100, 1, 100_000, 2, 1_000) == 1_000


@given(
    st.integers(1, 10**13),
    st.integers(1, 10**7),
    st.integers(1, 50),
    st.integers(1, 10**7),
    st.sampled_from([1, 1_000, 10_000]),
)
def test_a_false_row_risks_twice_what_it_may_earn(
    held: int, row_work: int, price: int, work: int, floor: int
) -> None:
    """Chance times what is held is at least κ times the row's pay, or the row is certain.

    Whatever the row, whatever the rig's ordinary row, in exact integers.
    """
    rate = rate_ppm(held, price, row_work, 2, floor)
    certain = rate >= 1_000_000 or rate * work >= 1_000 * row_work

    assert certain or rate * work * held >= 2 * price * work * 1_000 * row_work


def _known(rows: int, work: int) -> Standing:
    standing = Standing("a", "r")
    standing.accepted(np.full(rows, work, np.int64))
    return standing


def test_the_ordinary_row_is_over_the_work_of_a_thousand() -> None:
    """Rows of another size have replaced the former ones when as much work of them was done."""
    standing = _known(1_000, 100)
    assert standing.row_work == 100_000

    standing.accepted(np.full(500, 300, np.int64))
    assert standing.row_work == 220_000, "100,000 work of 100 and 150,000 of 300"
    standing.accepted(np.full(1_000, 300, np.int64))
    assert standing.row_work == 300_000
    standing.accepted(np.full(3_000, 100, np.int64))
    assert standing.row_work == 100_000


def test_light_rows_do_not_make_the_ordinary_row_light() -> None:
    """Ten thousand rows of 1 are a fiftieth of the work that a thousand rows of 500 are."""
    standing = _known(1_000, 500)
    for _ in range(100):
        standing.accepted(np.ones(100, np.int64))

    assert standing.row_work > 480_000, "nor with it what is never released"


def test_a_huge_row_weighs_a_thousandth_at_most_once_enough_was_done() -> None:
    standing = _known(10_000, 100)
    standing.accepted(np.array([1_000], np.int64))

    assert standing.row_work < 101_000


def test_the_ordinary_row_is_exact_for_work_of_any_size() -> None:
    assert _known(8_000, 10**10).row_work == 10**13


def test_a_rate_of_one_draws_every_eligible_row() -> None:
    works = np.ones(5, np.int64)
    eligible = np.array([True, False, True, True, False])

    assert draw(KEY, CHECK, 1, 0, DIGEST, works, 1_000_000, 9_000) == (0, 1, 2, 3, 4)
    assert draw(KEY, CHECK, 1, 0, DIGEST, works, 1_000_000, 9_000, eligible) == (0, 2, 3)
    assert draw(KEY, CHECK, 1, 0, DIGEST, works, 1, 0) == (0, 1, 2, 3, 4), "no ordinary row yet"


def test_the_draw_can_be_recomputed_from_the_published_words() -> None:
    """Written out with nothing but the standard library, as an auditor would."""
    works = [1, 5, 9, 2, 2, 30, 1, 1, 7, 7] * 20
    rate, row_work = 150_000, 6_250
    seed = hmac.new(
        KEY,
        b"inferpool/draw/1\0check\0" + (7).to_bytes(8, "big") + (3).to_bytes(4, "big") + DIGEST,
        "sha256",
    ).digest()
    stream = hashlib.shake_256(seed).digest(8 * len(works))
    expected = {
        row
        for row, work in enumerate(works)
        if int.from_bytes(stream[8 * row : 8 * row + 8], "big") * 10**6 * row_work
        < rate * work * 1_000 * 2**64
    }

    assert 10 < len(expected) < 60
    assert _rows(CHECK, works, rate, part=3, row_work=row_work) == expected


def test_purposes_parts_and_leases_draw_independently() -> None:
    """One draw per purpose: joining two must not thin either out."""
    works = [1] * 20_000
    checks = _rows(CHECK, works, 100_000)
    referee = _rows(REFEREE, works, 100_000)

    assert abs(len(checks & referee) - 200) < 60
    for other in (_rows(CHECK, works, 100_000, part=1), _rows(CHECK, works, 100_000, lease=8)):
        assert abs(len(checks & other) - 200) < 60


def test_rows_are_drawn_in_proportion_to_their_work() -> None:
    """1 % of 40,000 rows; rows of three times the work three times as often."""
    works = [1, 3] * 20_000
    rows = _rows(CHECK, works, 10_000)

    assert abs(len(rows) - 400) < 80
    heavy = sum(row % 2 for row in rows)
    assert abs(heavy - 300) < 65


def test_a_heavy_row_is_drawn_as_often_alone_as_among_light_ones() -> None:
    """Its chance is its own work's, not its share of the part's: cutting parts gains nothing."""
    parts = 4_000
    alone = sum(bool(_rows(CHECK, [30], 10_000, lease=n, row_work=1_000)) for n in range(parts))
    among = sum(
        9 in _rows(CHECK, [1] * 9 + [30], 10_000, lease=parts + n, row_work=1_000)
        for n in range(parts)
    )

    assert abs(alone - 0.3 * parts) < 120
    assert abs(among - 0.3 * parts) < 120


def test_a_heavy_row_is_certain_before_the_rate_is() -> None:
    works = [1] * 99 + [1_000]

    assert 99 in _rows(CHECK, works, 200_000)


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=60),
    st.integers(1, 999_999),
    st.integers(0, 2**64 - 1),
)
def test_a_higher_rate_draws_the_same_rows_and_more(
    works: list[int], rate: int, lease: int
) -> None:
    low = _rows(CHECK, works, rate, lease=lease)
    high = _rows(CHECK, works, min(999_999, rate * 2), lease=lease)

    assert low <= high


@given(st.lists(st.booleans(), min_size=40, max_size=40))
def test_eligibility_only_takes_rows_away(eligible: list[bool]) -> None:
    works = np.arange(1, 41, dtype=np.int64)
    everything = draw(KEY, CHECK, 5, 0, DIGEST, works, 300_000, 20_500)
    some = draw(KEY, CHECK, 5, 0, DIGEST, works, 300_000, 20_500, np.array(eligible))

    assert some == tuple(row for row in everything if eligible[row])


def test_a_least_chance_is_a_row_s_own_whatever_its_work() -> None:
    """Of rows of work 1 and 1,000 alike half are drawn; the others keep their rate of 1 %."""
    works = np.array([1, 1_000] * 10_000, np.int64)
    least = least_of([(0, 10_000, 500_000)], len(works))
    drawn = np.array(draw(KEY, CHECK, 7, 0, DIGEST, works, 10_000, 1_000_000, None, least))
    light = (works[drawn] == 1) & (drawn < 10_000)
    heavy = (works[drawn] == 1_000) & (drawn < 10_000)

    assert abs(light.sum() - 2_500) < 150
    assert abs(heavy.sum() - 2_500) < 150
    assert abs((drawn >= 10_000).sum() - 50) < 35


def test_a_least_chance_only_adds_rows() -> None:
    works = np.full(5_000, 100, np.int64)
    plain = set(draw(KEY, CHECK, 7, 0, DIGEST, works, 40_000, 100_000))
    raised = set(draw(KEY, CHECK, 7, 0, DIGEST, works, 40_000, 100_000, None, 200_000))

    assert plain < raised
    assert set(draw(KEY, CHECK, 7, 0, DIGEST, works, 40_000, 100_000, None, 20_000)) == plain
    assert len(draw(KEY, CHECK, 7, 0, DIGEST, works, 0, 100_000, None, 1_000_000)) == 5_000


def test_the_least_chance_is_exact_at_its_edge() -> None:
    """Drawn below the chance and not at it, in integers, for every row of a part."""
    works = np.ones(2_000, np.int64)
    message = b"inferpool/draw/1\0check\0" + (7).to_bytes(8, "big") + bytes(4) + DIGEST
    seed = hmac.digest(KEY, message, "sha256")
    numbers = np.frombuffer(hashlib.shake_256(seed).digest(8 * 2_000), dtype=">u8")
    expected = {row for row, number in enumerate(numbers.tolist()) if number * 10 < 3 << 64}

    assert set(draw(KEY, CHECK, 7, 0, DIGEST, works, 1, 10**9, None, 300_000)) == expected


def test_rows_whose_work_is_not_known_count_nothing() -> None:
    """A part of a job that was over when the pool started again brings rows without work."""
    standing = Standing("a", "r")
    standing.accepted(np.full(10, 5))
    before = replace(standing)
    standing.accepted(np.zeros(3, np.int64))

    assert standing == before

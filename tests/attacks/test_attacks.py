"""The short form of the attack suite: each strategy within its bounds, and as documented."""

from __future__ import annotations

import pytest
from attacks import ATTACKS
from campaign import Attack
from expected import best_gain
from matrix import DOCUMENT, HEAD, line, measured, written, wrongs


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_a_strategy_stays_within_its_bounds_and_the_document_says_what_it_does(
    attack: Attack,
) -> None:
    """No gain beyond its bound, no honest rig harmed, loud cheats banned; its documented line."""
    outcomes = measured(attack, full=False)

    assert not wrongs(attack, outcomes, full=False)
    table = written(DOCUMENT.read_text(encoding="utf-8"), full=False).splitlines()
    assert line(attack, outcomes) in table, "run: make attacks-short"


def test_the_document_has_every_strategy_in_order() -> None:
    """Both tables have one line for each attack, and no other."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for full in (False, True):
        lines = written(text, full=full).splitlines()

        assert lines[:2] == HEAD.splitlines()
        assert [each.split("|")[1].strip() for each in lines[2:]] == [a.name for a in ATTACKS]


SHARES = (1, 8, 16, 32, 64, 128)


@pytest.mark.parametrize("colluding", [False, True])
@pytest.mark.parametrize("rows", SHARES)
def test_no_cheat_pays_once_forgiveness_is_spent(rows: int, colluding: bool) -> None:
    """By the pool's own rates, whatever it falsifies and when, honest work is the best."""
    assert best_gain(rows, max(60, 6_000 // rows), colluding=colluding).spent == 0.0


@pytest.mark.parametrize("rows", SHARES)
def test_forgiveness_of_a_first_wrong_row_is_worth_a_bounded_number_of_rows(rows: int) -> None:
    """Once in an account's life: less than one row in the rate at which it is sampled."""
    shares = max(60, 6_000 // rows)

    assert best_gain(rows, shares, colluding=False).clean <= max(0.0, 91.0 - 0.5 * rows)
    assert best_gain(rows, shares, colluding=True).clean <= 1_000.0

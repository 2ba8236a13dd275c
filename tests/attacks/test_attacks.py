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
def test_no_cheat_pays(rows: int, colluding: bool) -> None:
    """By the pool's own rates and fines, whatever it falsifies and when, honest work is the best:
    before an account was forgiven a wrong row, and after."""
    gain = best_gain(rows, max(60, 6_000 // rows), colluding=colluding)

    assert (gain.clean, gain.spent) == (0.0, 0.0)

"""The short form of the attack suite: each strategy within its bounds, and as documented."""

from __future__ import annotations

import pytest
from attacks import ATTACKS
from campaign import Attack
from expected import best_gain
from matrix import DOCUMENT, FULL, HEAD, SHORT, WAITS, line, measured, written, wrongs
from waits import LONGEST, scenes
from waits import line as wait_line


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_a_strategy_stays_within_its_bounds_and_the_document_says_what_it_does(
    attack: Attack,
) -> None:
    """No gain beyond its bound, no honest rig harmed, loud cheats banned; its documented line."""
    outcomes = measured(attack, full=False)

    assert not wrongs(attack, outcomes, full=False)
    table = written(DOCUMENT.read_text(encoding="utf-8"), SHORT).splitlines()
    assert line(attack, outcomes) in table, "run: make attacks-short"


def test_the_document_has_every_strategy_in_order() -> None:
    """Both tables have one line for each attack, and no other."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in (SHORT, FULL):
        lines = written(text, name).splitlines()

        assert lines[:2] == HEAD.splitlines()
        assert [each.split("|")[1].strip() for each in lines[2:]] == [a.name for a in ATTACKS]


@pytest.mark.parametrize("name", scenes())
def test_no_company_keeps_honest_shares_waiting(name: str) -> None:
    """As documented; and of a flood each account is banned before it has taken much."""
    attack = scenes()[name]
    text, outcome = wait_line(name, attack)

    assert outcome.finished
    assert outcome.waits[-1] <= LONGEST
    assert outcome.honest_lost == 0
    if attack.name.startswith("referee flooding"):
        assert outcome.banned == outcome.attackers
    table = written(DOCUMENT.read_text(encoding="utf-8"), WAITS).splitlines()
    assert text in table, "run: make attacks-short"


SHARES = (1, 8, 16, 32, 64, 128)


@pytest.mark.parametrize("colluding", [False, True])
@pytest.mark.parametrize("rows", SHARES)
def test_no_cheat_pays(rows: int, colluding: bool) -> None:
    """By the pool's own rates and fines, whatever it falsifies and when, honest work is the best:
    before an account was forgiven a wrong row, and after."""
    gain = best_gain(rows, max(60, 6_000 // rows), colluding=colluding)

    assert (gain.clean, gain.spent) == (0.0, 0.0)

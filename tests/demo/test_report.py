"""What the demo prints: sums that add up, sentences that say what happened."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from pool.customer import Batch, Counts
from pool.demo import live, report
from pool.demo.claims import judge
from pool.demo.evidence import Standing
from pool.demo.search import Hit, search
from pool.demo.watch import RigSeen, Scene, Status


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120)


def printed(console):
    return console.file.getvalue()


def test_the_report_has_every_part(good, console):
    """Output, cheat, money, earnings, search, claims."""
    report.tell(console, good, judge(good), None)
    text = " ".join(printed(console).split())

    for words in (
        "6 vectors",
        "2 of the 11 rows of share 3 were found wrong (referee)",
        "1.5 s after it was given work, when it had delivered its first share",
        "went back (30 units)",
        "was forfeited (20 units)",
        "heapq.merge/1",
        "holds the price is divided to the unit: 64 of 64 units",
    ):
        assert words in text, text
    assert "FAILS" not in text


def test_the_lines_of_the_money_table_add_up_to_its_foot(good, console):
    """What a reader adds up is the price."""
    console.print(report.money_table(good.books.money))
    figures = [
        int(line.split()[-1].replace(",", ""))
        for line in printed(console).splitlines()
        if line.split() and line.split()[-1].replace(",", "").isdigit()
    ]

    assert sum(figures[:-1]) == figures[-1] == 64


def test_a_claim_that_fails_says_so(good, console):
    """In words that can be searched for."""
    spoiled = replace(good, status="failed")
    report.tell(console, spoiled, judge(spoiled), None)

    assert "FAILS  every text came back once" in printed(console)


def test_a_cheat_that_got_away_is_told_without_excuse(good):
    """No conviction, no story."""
    free = replace(good, books=replace(good.books, conviction=None))

    assert report.cheat_told(free)[-1] == "It was not found out."


def test_a_cheat_found_through_its_checks_is_told_as_such(good):
    """A rig can also be found out by the checks it was given."""
    found = replace(good.books.conviction, wrong=0, false_checks=2)
    books = replace(good.books, conviction=found)

    assert (
        "it called 2 right rows of others wrong"
        in (report.cheat_told(replace(good, books=books))[1])
    )


def test_a_banned_rig_stays_in_the_live_picture():
    """It is the one that everybody looks for; the status no longer lists it."""
    scene = Scene()
    scene.see(
        Status(
            [
                RigSeen("ada", "rig1", ["minilm"], leases=1),
                RigSeen("mallory", "rig1", ["minilm"]),
            ]
        )
    )
    assert scene.staged("minilm") == {"ada.rig1", "mallory.rig1"}
    scene.see(Status([RigSeen("ada", "rig1", ["minilm"], leases=1)]))
    assert live.state(scene, scene.rigs["mallory.rig1"]) == "gone"
    scene.standings = {"mallory.rig1": Standing(rejected=2, offences=1)}

    assert scene.staged("minilm") == {"ada.rig1"}
    assert live.state(scene, scene.rigs["mallory.rig1"]) == "banned"
    assert "0 checked 2 rejected" in live.line(scene)


def test_without_a_terminal_a_line_comes_now_and_then(console):
    """Logs of a continuous integration stay readable."""
    scene = Scene(batch=Batch("batch_1", "in_progress", Counts(10, 4, 1)))
    with live.shown(console, scene) as changed:
        for _ in range(50):
            changed()

    assert printed(console).count("batch in_progress: 5 of 10 rows") == 1


def test_on_a_terminal_the_picture_is_drawn():
    """With every column that was promised."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    scene = Scene(batch=Batch("batch_1", "in_progress", Counts(10, 4, 1)))
    scene.see(Status([RigSeen("ada", "rig1", rate=123.0)]))
    with live.shown(console, scene) as changed:
        changed()

    for words in ("ada.rig1", "work/s", "accepted", "checked", "rejected", "5 of 10 rows"):
        assert words in printed(console)


def test_the_nearest_rows_come_first_whatever_their_length():
    """Cosines, not products."""
    rows = np.array([[0, 2], [3, 3], [100, 0]], dtype=np.float32)
    found = search(np.array([[0, 1]], dtype=np.float32), rows, hits=2)

    assert found == [[Hit(0, 1.0), Hit(1, pytest.approx(0.5**0.5))]]

"""The demo's claims: all hold when all is well, and each fails alone when its matter is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pool.demo.claims import judge
from pool.demo.evidence import Record


def broken(outcome):
    return [claim.says for claim in judge(outcome) if not claim.holds]


def with_books(outcome, **changes):
    return replace(outcome, books=replace(outcome.books, **changes))


def with_money(outcome, **changes):
    return with_books(outcome, money=replace(outcome.books.money, **changes))


def with_record(outcome, miner, **changes):
    records = outcome.books.records
    return with_books(outcome, records=records | {miner: replace(records[miner], **changes)})


def test_a_run_as_promised_breaks_nothing(good):
    """Every claim holds, and says its figures."""
    assert broken(good) == []
    assert all(claim.because for claim in judge(good))


COMPLETE = "every text came back once, in the customer's order"
IDENTICAL = "the output is bit-identical to that of one honest process"
WORKED = "each of the three rigs delivered shares"
CAUGHT = "mallory was caught and banned"
DIVIDED = "the price is divided to the unit"
BLAMELESS = "no honest rig was blamed for anything"


@pytest.mark.parametrize(
    ("spoil", "fails"),
    [
        (lambda o: replace(o, status="expired"), COMPLETE),
        (lambda o: replace(o, refused=1), COMPLETE),
        (lambda o: replace(o, answered=o.answered[::-1]), COMPLETE),
        (lambda o: replace(o, answered=[*o.answered, o.answered[0]]), COMPLETE),
        (lambda o: replace(o, vectors={**o.vectors, o.places[3]: bytes(16)}), IDENTICAL),
        (lambda o: replace(o, vectors={o.places[0]: o.vectors[o.places[0]]}), IDENTICAL),
        (lambda o: with_record(o, "ada", shares=0), WORKED),
        (lambda o: replace(o, falsified=0), "mallory falsified rows"),
        (lambda o: with_books(o, conviction=None), CAUGHT),
        (lambda o: with_record(o, "mallory", offences=0), CAUGHT),
        (lambda o: replace(o, now=6_000.0), CAUGHT),
        (lambda o: with_record(o, "mallory", keeps=1), "mallory keeps nothing"),
        (lambda o: with_record(o, "grace", rejected=1), BLAMELESS),
        (lambda o: with_record(o, "ada", offences=1), BLAMELESS),
        (lambda o: with_money(o, refund=1), DIVIDED),
        (lambda o: with_money(o, held=59), DIVIDED),
        (lambda o: with_money(o, held=59, escrow=1), DIVIDED),
        (lambda o: with_books(o, settled=False), DIVIDED),
        (lambda o: with_books(o, work=70), "every row was paid for exactly once"),
        (lambda o: with_books(o, ledger_error="lost 3 units"), "the pool's ledger is in balance"),
        (
            lambda o: replace(o, queries=[bytes(16), *o.queries[1:]]),
            "direct requests give the same bits",
        ),
    ],
)
def test_what_is_spoiled_is_named_and_nothing_else(good, spoil, fails):
    """One fault, one failing claim."""
    assert broken(spoil(good)) == [fails]


def test_the_first_difference_is_named(good):
    """Whoever has to find out why begins there."""
    spoiled = replace(good, vectors={**good.vectors, good.places[3]: bytes(16)})
    (claim,) = [claim for claim in judge(spoiled) if not claim.holds]

    assert claim.because == "5 of 6 vectors equal; the first that differs: heapq.merge/3"


def test_a_rig_that_never_came_breaks_its_claim(good):
    """Its record is there, and empty."""
    assert WORKED in broken(with_books(good, records=good.books.records | {"ada": Record()}))

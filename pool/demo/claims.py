"""What the demo claims, and whether it held. Each claim is decided here, from facts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pool.demo.evidence import Books
from pool.demo.search import Hit

HONEST = ("ada", "grace")
CHEAT = "mallory"
CUSTOMER = "carol"
MINERS = (*HONEST, CHEAT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that was seen of one run. Vectors are little-endian float32 bytes."""

    places: Sequence[str]  # the requests' names, in the customer's order
    texts: Sequence[str]
    answered: Sequence[str]  # names in the output file, in its order
    vectors: Mapping[str, bytes]  # {name: what the pool delivered}
    refused: int  # requests in the error file
    status: str  # the batch's last
    expected: Sequence[bytes]  # what one honest process computed, in the customer's order
    queries: Sequence[bytes]  # the search's queries, by direct requests
    expected_queries: Sequence[bytes]
    hits: Sequence[Sequence[Hit]]
    falsified: int  # rows that the cheat says it falsified
    books: Books
    now: float  # seconds since the epoch, when the books were read
    seconds: Mapping[str, float] = field(default_factory=dict)  # {stage: how long it took}


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise: what it says, whether it held, and the figures behind it."""

    says: str
    holds: bool
    because: str


def judge(outcome: Outcome) -> list[Claim]:
    """Every claim, in the order in which they are told."""
    return [
        _complete(outcome),
        _identical(outcome),
        _everyone_worked(outcome),
        _lied(outcome),
        _caught(outcome),
        _nothing_gained(outcome),
        _nobody_else(outcome),
        _divided(outcome),
        _paid_once(outcome),
        _ledger(outcome),
        _direct(outcome),
    ]


def _complete(outcome: Outcome) -> Claim:
    rows = len(outcome.places)
    holds = (
        outcome.status == "completed"
        and list(outcome.answered) == list(outcome.places)
        and outcome.refused == 0
    )
    return Claim(
        "every text came back once, in the customer's order",
        holds,
        f"{len(outcome.answered):,} of {rows:,} answered, {outcome.refused:,} refused,"
        f" batch {outcome.status}",
    )


def _identical(outcome: Outcome) -> Claim:
    different = [
        place
        for place, vector in zip(outcome.places, outcome.expected, strict=True)
        if outcome.vectors.get(place) != vector
    ]
    same = len(outcome.places) - len(different)
    words = f"{same:,} of {len(outcome.places):,} vectors equal"
    if different:
        words += f"; the first that differs: {different[0]}"
    return Claim("the output is bit-identical to that of one honest process", not different, words)


def _everyone_worked(outcome: Outcome) -> Claim:
    shares = {miner: outcome.books.records[miner].shares for miner in MINERS}
    words = ", ".join(f"{miner} {count:,}" for miner, count in shares.items())
    return Claim("each of the three rigs delivered shares", all(shares.values()), words)


def _lied(outcome: Outcome) -> Claim:
    return Claim(
        f"{CHEAT} falsified rows",
        outcome.falsified > 0,
        f"{outcome.falsified:,} vectors replaced by the mean of two others, at unit length",
    )


def _caught(outcome: Outcome) -> Claim:
    found, record = outcome.books.conviction, outcome.books.records[CHEAT]
    if found is None:
        return Claim(f"{CHEAT} was caught and banned", False, "no share of it was rejected")
    holds = record.offences > 0 and found.banned_until > outcome.now
    return Claim(
        f"{CHEAT} was caught and banned",
        holds,
        f"{record.offences} offence, after {found.shares_delivered} delivered"
        f" share{'' if found.shares_delivered == 1 else 's'}",
    )


def _nothing_gained(outcome: Outcome) -> Claim:
    record = outcome.books.records[CHEAT]
    return Claim(
        f"{CHEAT} keeps nothing",
        record.keeps == 0,
        f"it has {record.keeps:,} units and forfeited {record.forfeited:,}",
    )


def _nobody_else(outcome: Outcome) -> Claim:
    blamed = {
        miner: outcome.books.records[miner].rejected + outcome.books.records[miner].offences
        for miner in HONEST
    }
    return Claim(
        "no honest rig was blamed for anything",
        not any(blamed.values()),
        ", ".join(
            f"{miner}: {outcome.books.records[miner].rows_checked:,} rows checked,"
            f" {outcome.books.records[miner].rejected} shares rejected"
            for miner in HONEST
        ),
    )


def _divided(outcome: Outcome) -> Claim:
    money = outcome.books.money
    parts = (
        money.pending
        + money.held
        + money.available
        + money.checks
        + money.operator
        + money.reserve
        + money.refund
    )
    return Claim(
        "the price is divided to the unit",
        parts == money.price and outcome.books.settled and money.price > 0,
        f"{parts:,} of {money.price:,} units accounted for",
    )


def _paid_once(outcome: Outcome) -> Claim:
    accounts = outcome.books.money.accounts
    paid = sum(earned.work for earned in accounts.values())
    return Claim(
        "every row was paid for exactly once",
        paid == outcome.books.work,
        f"work paid {paid:,}, work of the batch {outcome.books.work:,}",
    )


def _ledger(outcome: Outcome) -> Claim:
    error = outcome.books.ledger_error
    return Claim(
        "the pool's ledger is in balance", error is None, error or "every transaction adds up"
    )


def _direct(outcome: Outcome) -> Claim:
    same = sum(
        got == want for got, want in zip(outcome.queries, outcome.expected_queries, strict=True)
    )
    return Claim(
        "direct requests give the same bits",
        same == len(outcome.expected_queries) > 0,
        f"{same} of {len(outcome.expected_queries)} queries equal",
    )

"""A run of the demo in which everything went as promised, made of plain facts."""

from __future__ import annotations

import numpy as np
import pytest

from pool.demo.claims import Outcome
from pool.demo.evidence import Books, Conviction, Record
from pool.demo.search import QUERIES, Hit
from pool.store.moneytable import Earned, MoneyTable

ROWS = 6


def vector(seed):
    return np.random.default_rng(seed).standard_normal(4).astype("<f4").tobytes()


@pytest.fixture
def good() -> Outcome:
    """Six rows of work 10 each; ada and grace did three each, mallory was caught."""
    places = [f"heapq.merge/{row}" for row in range(ROWS)]
    vectors = [vector(row) for row in range(ROWS)]
    queries = [vector(100 + row) for row in range(len(QUERIES))]
    money = MoneyTable(
        price=64,
        held=60,
        checks=1,
        operator=2,
        reserve=1,
        accounts={
            "ada": Earned(work=30, pay=30, check_work=1, check_pay=1),
            "grace": Earned(work=30, pay=30),
            "mallory": Earned(rejected=30, forfeited=20),
        },
    )
    return Outcome(
        places=places,
        texts=[f"Text number {row}." for row in range(ROWS)],
        answered=places,
        vectors=dict(zip(places, vectors, strict=True)),
        refused=0,
        status="completed",
        expected=vectors,
        queries=queries,
        expected_queries=queries,
        hits=[[Hit(0, 0.9), Hit(1, 0.5)] for _ in QUERIES],
        falsified=2,
        books=Books(
            settled=True,
            work=60,
            money=money,
            records={
                "ada": Record(shares=2, cleared=2, rows_checked=3),
                "grace": Record(shares=2, cleared=2, rows_checked=3),
                "mallory": Record(
                    shares=1, rejected=1, rows_checked=2, rows_wrong=2, offences=1, forfeited=20
                ),
            },
            conviction=Conviction(
                share=(1 << 32) + 3,
                reason="wrong_rows",
                rows=11,
                wrong=2,
                found_by=("referee",),
                false_checks=0,
                shares_delivered=1,
                seconds=1.5,
                banned_until=5_000.0,
            ),
            ledger_error=None,
        ),
        now=1_000.0,
        seconds={"computing": 12.3},
    )

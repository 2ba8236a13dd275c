"""What a batch would cost, before anything is reserved."""

from __future__ import annotations

from dataclasses import dataclass

from pool.batches.admission import price_job
from pool.batches.intake import IntakeReport
from pool.config import MoneyConfig
from shares.money.price import Price
from shares.trust.assurance import Assurance


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A batch's size and price. It holds while the operator's prices and the model stand."""

    model: str
    requests: int
    refused: int  # of them: lines that would fail alone
    rows: int
    tokens: int
    assurance_ppm: int  # each row is checked with this chance at least
    trusted: bool  # by rigs on the operator's list only
    price: Price


def quote_of(report: IntakeReport, money: MoneyConfig, assurance: Assurance) -> Quote:
    """The quote for what intake found, without errors."""
    assert report.model is not None  # a report without errors has it
    return Quote(
        model=report.model,
        requests=report.lines,
        refused=report.refused,
        rows=report.rows,
        tokens=report.tokens,
        assurance_ppm=assurance.rate_ppm(report.rows),
        trusted=assurance.trusted,
        price=price_job(report, money, assurance),
    )

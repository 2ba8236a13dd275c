"""From a packed job to one that may be worked on: objects first, then one transaction."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from pool.batches.intake import IntakeReport
from pool.batches.naming import block_object, job_place, lines_object
from pool.config import MoneyConfig
from pool.store import Store
from pool.store.escrow import reserve_job
from pool.store.jobs import add_blocks
from shares.money.price import Price, price_of
from shares.trust.assurance import KEY, NO_ASSURANCE, Assurance, parse_assurance


def store_blocks(store: Store, place: str, report: IntakeReport) -> None:
    """Put a job's blocks into the object store."""
    for number, block in enumerate(report.blocks):
        store.objects.put_file(block_object(place, number), block.path)


def remove_blocks(store: Store, place: str, report: IntakeReport) -> None:
    """Take back what ``store_blocks`` stored."""
    for number in range(len(report.blocks)):
        store.objects.delete(block_object(place, number))


def store_packed(store: Store, job: int, report: IntakeReport) -> None:
    """Put a batch's blocks and lines into the object store."""
    store_blocks(store, job_place(job), report)
    assert report.lines_path is not None  # a report without errors has it
    store.objects.put_file(lines_object(job), report.lines_path)


def assurance_of(metadata: Mapping[str, str] | None) -> Assurance:
    """What a batch's metadata asks for. Raises ``AssuranceError``."""
    return parse_assurance((metadata or {}).get(KEY))


def price_job(report: IntakeReport, money: MoneyConfig, assurance: Assurance) -> Price:
    """What a job costs at most; the rest is given back when it is settled.

    The levy for checks rises by the part of the job that the assurance has computed again.
    """
    levy_ppm = money.levy_ppm + assurance.rate_ppm(report.rows)
    return price_of(report.work, unit=money.price, levy_ppm=levy_ppm, fee_ppm=money.fee_ppm)


def reserve_and_pack(
    connection: sa.Connection,
    job: int,
    account: str,
    place: str,
    report: IntakeReport,
    money: MoneyConfig,
    at: float,
    assurance: Assurance = NO_ASSURANCE,
) -> None:
    """Reserve a job's price and name its stored blocks, in the transaction that accepts it.

    Raises ``InsufficientQuotaError`` when the customer has too little.
    """
    price = price_job(report, money, assurance)
    rate = assurance.rate_ppm(report.rows)
    reserve_job(connection, job, account, price, at, assurance_ppm=rate, trusted=assurance.trusted)
    add_blocks(
        connection,
        job,
        [(block_object(place, no), b.rows, b.work) for no, b in enumerate(report.blocks)],
    )


def counts(report: IntakeReport) -> dict[str, int]:
    """Columns of a job that say how much there is to do."""
    return {
        "lines": report.lines,
        "lines_refused": report.refused,
        "tokens": report.tokens,
        "rows": report.rows,
        "blocks": len(report.blocks),
    }

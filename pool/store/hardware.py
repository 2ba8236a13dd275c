"""What each kind of device has done, by model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select

from pool.store import schema
from pool.store.database import Database, upsert

KINDS = 256
"""Kinds that are kept apart; whoever invents more is counted among the others."""
OTHER = "other"
_JOBS = 10_000  # the last ones, by which a million tokens are priced
_MILLION = 1_000_000


@dataclass(slots=True)
class Done:
    """Cleared work. ``seconds`` are of devices; ``joules`` are reported, for ``joules_work``."""

    rows: int = 0
    work: int = 0
    seconds: float = 0.0
    joules: float = 0.0
    joules_work: int = 0

    def add(self, more: Done) -> None:
        """Add ``more``."""
        self.rows += more.rows
        self.work += more.work
        self.seconds += more.seconds
        self.joules += more.joules
        self.joules_work += more.joules_work


def add_done(database: Database, done: dict[tuple[str, str], Done]) -> None:
    """Add to what each (kind, model) has done."""
    table = schema.hardware
    with database.write() as connection:
        known = set(connection.scalars(select(table.c.kind).distinct()))
        for (kind, model), more in sorted(done.items()):
            if kind not in known and len(known) >= KINDS:
                kind = OTHER
            known.add(kind)
            found = connection.execute(
                select(
                    table.c.rows,
                    table.c.work,
                    table.c.seconds,
                    table.c.joules,
                    table.c.joules_work,
                ).where(table.c.kind == kind, table.c.model == model)
            ).one_or_none()
            total = Done() if found is None else Done(*found)
            total.add(more)
            row = {name: getattr(total, name) for name in Done.__slots__}
            upsert(connection, table, [{"kind": kind, "model": model, **row}])


def ranking(connection: sa.Connection, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every kind and model, the quickest first; numbers that cannot be told are None.

    ``names``: {digest: name} of models; one that is on offer no more goes by its digest.
    """
    table = schema.hardware.c
    rows = [
        {
            "device": row.kind,
            "model": names.get(row.model, row.model),
            "rows": row.rows,
            "work": row.work,
            "device_seconds": round(row.seconds, 1),
            "work_per_second": _ratio(row.work, row.seconds),
            "rows_per_second": _ratio(row.rows, row.seconds),
            "reported_joules": round(row.joules, 1),
            "reported_work_per_joule": _ratio(row.joules_work, row.joules),
        }
        for row in connection.execute(select(schema.hardware).where(table.work > 0))
    ]
    return sorted(rows, key=lambda row: (row["model"], -(row["work_per_second"] or 0)))


def token_prices(connection: sa.Connection) -> list[dict[str, Any]]:
    """What a million tokens cost, by model: of the last jobs, everything that was charged for."""
    job = schema.job.c
    last = (
        select(
            job.model_name,
            job.tokens,
            job.work,
            (job.pay_reserved + job.check_reserved + job.fee_reserved).label("units"),
        )
        .where(job.tokens > 0, job.work > 0, job.model_name.is_not(None))
        .order_by(job.id.desc())
        .limit(_JOBS)
        .subquery()
    )
    rows = connection.execute(
        select(
            last.c.model_name,
            func.sum(last.c.tokens).label("tokens"),
            func.sum(last.c.work).label("work"),
            func.sum(last.c.units).label("units"),
        )
        .group_by(last.c.model_name)
        .order_by(last.c.model_name)
    )
    return [
        {
            "model": row.model_name,
            "tokens": int(row.tokens),
            "work_per_token": _ratio(row.work, row.tokens),
            "units_per_million_tokens": -(-int(row.units) * _MILLION // int(row.tokens)),
        }
        for row in rows
    ]


def _ratio(of: float, to: float) -> float | None:
    return round(of / to, 3) if to else None

"""Pay per last N units (pplns): released pay is pooled, and each round divides the pot.

What is pooled has passed its hold, so that nobody can be paid for work whose hold is still open to
forfeit. A round's pot is divided over the last N units of pay that were pooled before its end,
whichever round they are of; see ``shares.money.schemes``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import func, insert, select

from pool.store import schema
from pool.store.database import upsert
from pool.store.ledger import balance, head, post
from shares.money import posting
from shares.money.apportion import apportion
from shares.money.schemes import pplns_weights

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class PotTerms:
    """How the pot is divided: a round's length, and N in units of pay."""

    round_seconds: int = 3_600
    window: int = 1_000_000_000


def add_to_pot(connection: sa.Connection, account: str, units: int, at: float) -> None:
    """Note whose pay went to the pot; the entry itself is posted beside."""
    if units:
        connection.execute(insert(schema.pot_share).values(account=account, units=units, at=at))


def divide_pot(connection: sa.Connection, terms: PotTerms, at: float) -> int:
    """Divide what was pooled before the round that is going; returns the units that were paid.

    Once a round, whenever it is tried. Ties go by the hash of the ledger's last entry, which nobody
    could choose and everybody can look up.
    """
    number = int(at // terms.round_seconds)
    table = schema.pot_round
    if connection.scalar(select(table.c.number).where(table.c.number >= number).limit(1)):
        return 0
    end = float(number * terms.round_seconds)
    shares = schema.pot_share.c
    # From the newest on: what is searched is what was pooled since the round's end.
    newest_first = select(shares.id).where(shares.at < end).order_by(shares.id.desc())
    last = connection.scalar(newest_first.limit(1)) or 0
    later = connection.scalar(
        select(func.coalesce(func.sum(shares.units), 0)).where(shares.id > last)
    )
    pot = balance(connection, posting.POT) - int(later or 0)
    if not last or not pot:
        return 0
    weights = pplns_weights(_newest_first(connection, last), terms.window)
    carried = {
        row.account: row.parts
        for row in connection.execute(
            select(schema.fraction).where(schema.fraction.c.account.in_(weights))
        )
    }
    found = apportion(pot, weights, carried, head(connection).hash)
    entries = posting.pot_divided(found.units, found.kept)
    post(connection, "pot_divided", f"round:{number}", entries, at)
    upsert(
        connection,
        schema.fraction,
        [{"account": account, "parts": found.carried[account]} for account in weights],
    )
    connection.execute(
        insert(table).values(
            number=number, at=at, units=pot, window=sum(weights.values()), last=last
        )
    )
    return sum(found.units.values())


def _newest_first(connection: sa.Connection, last: int) -> Iterator[tuple[str, int]]:
    table = schema.pot_share
    while True:
        rows = connection.execute(
            select(table).where(table.c.id <= last).order_by(table.c.id.desc()).limit(_PAGE)
        ).all()
        for row in rows:
            yield row.account, row.units
        if len(rows) < _PAGE:
            return
        last = rows[-1].id - 1

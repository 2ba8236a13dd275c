"""What an overturned finding gives back: what would not have been lost without it, and once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pool.store import Store, schema
from pool.store.appeals import Relief, relief

HOUR = 3_600.0
LATER = 10.0 + 2 * HOUR  # after a first ban
PAY = {1: 100, 2: 200, 3: 300, 4: 400}  # of shares by their number


class Court:
    """A miner's shares, what was found of them, and what it lost."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        for lease, amount in PAY.items():
            self._insert(
                schema.lease,
                id=lease,
                account="anna",
                rig="r",
                model="m",
                operation="embed",
                segments=b"\x90",
                rows=8,
                work=8,
                difficulty=8,
                issued=1.0,
                deadline=99.0,
                state="done",
                verdict="cleared",
            )
            self._insert(
                schema.credit,
                lease=lease,
                part=0,
                job=1,
                kind="row",
                source="pay",
                account="anna",
                rig="r",
                work=8,
                amount=amount,
                state="cleared",
                at=1.0,
            )

    def _insert(self, table: sa.Table, **row: object) -> None:
        self.connection.execute(table.insert(), [row])

    def found(self, lease: int, at: float, rows: int = 1) -> None:
        for row in range(rows):
            place = {"job": 1, "block": 0, "row": 100 * lease + row + int(at)}
            facts = {"given": b"g", "expected": b"e", "offence": False}
            self._insert(schema.refuted, lease=lease, at=at, **place, **facts)

    def rejected(self, at: float, *leases: int, forfeit: bool = False) -> None:
        share, credit = schema.lease, schema.credit
        state = "forfeited" if forfeit else "rejected"
        self.connection.execute(
            share.update()
            .where(share.c.id.in_(leases))
            .values(verdict="rejected", judged=at, reason="offence" if forfeit else "wrong_row")
        )
        self.connection.execute(
            credit.update().where(credit.c.lease.in_(leases)).values(state=state)
        )

    def forfeited(self, number: int, lease: int, at: float, units: int, reason: str) -> None:
        self._insert(
            schema.forfeit,
            account="anna",
            rig="r",
            number=number,
            lease=lease,
            at=at,
            units=units,
            reason=reason,
        )

    def overturned(self, lease: int) -> None:
        facts = {"opened": 1.0, "outcome": "overturned", "decided": 1.0, "units": 0, "paid": 0}
        self._insert(schema.appeal, lease=lease, account="anna", rig="r", **facts)

    def relief(self, lease: int) -> Relief:
        return relief(self.connection, "anna", "r", lease, HOUR)


@pytest.fixture
def court(tmp_path: Path) -> Iterator[Court]:
    store = Store.open(tmp_path, durable=False)
    with store.database.write() as connection:
        yield Court(connection)
    store.close()


def _one_offence(court: Court, rows: int) -> None:
    """Shares 1 and 2 were found wrong together; share 3 fell with them, 1,000 units of hold too."""
    court.found(1, 10.0, rows)
    court.found(2, 10.0, rows)
    court.rejected(10.0, 1, 2)
    court.rejected(10.0, 3, forfeit=True)
    court.forfeited(1, 2, 10.0, 1_000, "offence")


def test_a_first_flip_beside_an_error_is_forgiven_as_one(court: Court) -> None:
    """Without the error the other share's wrong row is the first, isolated one."""
    _one_offence(court, 1)
    lifted = court.relief(1)

    assert (lifted.before["r"].offences, lifted.after["r"].offences) == (1, 0)
    assert lifted.after["r"].isolated == 1
    assert lifted.after["r"].banned_until == 0.0
    assert lifted.units == 100 + 300 + 1_000  # not the pay of share 2, a row of which is wrong


def test_an_offence_that_remains_keeps_what_it_cost(court: Court) -> None:
    _one_offence(court, 2)
    lifted = court.relief(1)

    assert (lifted.before["r"].offences, lifted.after["r"].offences) == (1, 1)
    assert lifted.units == 0


def test_two_errors_of_one_offence_are_made_good_once(court: Court) -> None:
    """With the last of them, and all of it."""
    _one_offence(court, 2)
    first = court.relief(1).units
    court.overturned(1)
    second = court.relief(2)

    assert second.after["r"].offences == 0
    assert first + second.units == 100 + 200 + 300 + 1_000


def test_a_genuine_offence_outlasts_an_appeal_about_another(court: Court) -> None:
    """Its ban becomes a first one."""
    court.found(1, 10.0, 2)
    court.rejected(10.0, 1)
    court.forfeited(1, 1, 10.0, 500, "offence")
    court.found(4, LATER, 2)
    court.rejected(LATER, 4)
    court.forfeited(2, 4, LATER, 700, "offence")
    lifted = court.relief(1)

    assert lifted.before["r"].banned_until == LATER + 2 * HOUR
    assert lifted.after["r"].banned_until == LATER + HOUR
    assert lifted.after["r"].offences == 1
    assert lifted.units == 100 + 500


def test_the_fine_of_a_first_row_comes_back_and_with_it_a_later_offence(court: Court) -> None:
    """For the later row had been the second one."""
    court.found(1, 10.0)
    court.rejected(10.0, 1)
    court.forfeited(1, 1, 10.0, 50, "wrong_row")
    court.found(2, 20.0)
    court.rejected(20.0, 2)
    court.rejected(20.0, 3, forfeit=True)
    court.forfeited(2, 2, 20.0, 900, "offence")
    lifted = court.relief(1)

    assert (lifted.after["r"].isolated, lifted.after["r"].offences) == (1, 0)
    assert lifted.units == 100 + 50 + 900 + 300

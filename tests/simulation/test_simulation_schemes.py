"""A whole pool under each scheme of pay: honest rigs, a liar, and money that adds up."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit import check_money
from sqlalchemy import select
from world import World, settings, simulate

from pool.store import schema
from pool.store.escrow import deposit
from pool.store.ledger import balances
from pool.store.reserve import spendable_reserve

# A minimum hold of 20 rows, and holds of seconds: what takes a day is over in a minute.
TRUST = {"hold_seconds": 20.0, "referee_floor_ppm": 100_000, "clearing_seconds": 2.0}
ROWS = 1_500


async def two_jobs(world: World) -> dict[str, int]:
    """Two jobs, one after the other; what the ledger has in the end."""
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol")
    deposit(world.store.database, "reserve", 50_000, world.epoch + world.now)
    world.add_rigs(3, 10.0, 20.0)
    world.add_rig("liar", "rig", 20.0, falsehood=0.01)
    await world.start_rigs()
    jobs = []
    for _ in range(2):
        job = await world.open_job("carol", ROWS)
        await job.over.wait()
        jobs.append(job)
    await world.settle()
    await world.sleep_until(world.now + 150)
    await world.settle()
    check_money(world, *jobs)
    assert world.pool is not None
    with world.store.database.read() as connection:
        assert world.pool.core.board.totals().reserve == spendable_reserve(connection)
        return balances(connection)


def run(tmp_path: Path, scheme: str) -> dict[str, int]:
    money = {"scheme": scheme, "round_seconds": 60, "pplns_window": 1_000, "settle_seconds": 1.0}
    return simulate(11, tmp_path, two_jobs, config=settings(trust=TRUST, money=money))


@pytest.mark.parametrize("scheme", ["pplns", "pps"])
def test_honest_rigs_are_paid_under_every_scheme(tmp_path: Path, scheme: str) -> None:
    """The board's reserve is the ledger's, and nobody but the liar is short of anything."""
    found = run(tmp_path, scheme)
    available = {code: units for code, units in found.items() if code.startswith("available:m")}
    held = {code: units for code, units in found.items() if code.startswith("held:m")}

    def has(account: str) -> int:
        return found.get(f"available:{account}", 0) + found.get(f"held:{account}.rig", 0)

    assert len(available) == 3
    assert has("liar") < has("m02"), "as quick, and a hundredth of its rows is false"
    assert all(held.values()), "the minimum hold stays"
    if scheme == "pplns":
        assert found.get("pot", 0) == 0, "150 seconds are two rounds"
        assert sum(available.values()) + sum(held.values()) > 0.9 * ROWS
    else:
        assert sum(available.values()) > 0.9 * ROWS


async def what_is_advanced(world: World) -> tuple[set[str], set[str]]:
    """Accounts that the reserve paid early, and those that owe it in the end."""
    await two_jobs(world)
    with world.store.database.read() as connection:
        entry = schema.entry.c
        paid = connection.scalars(
            select(entry.account_code).where(entry.kind == "advanced", entry.amount > 0)
        )
        advance = schema.advance.c
        owing = connection.scalars(select(advance.account).where(advance.units > 0))
        return set(paid), set(owing)


def test_only_who_has_a_hold_of_its_own_is_paid_early_and_pays_back(tmp_path: Path) -> None:
    money = {"scheme": "pps", "settle_seconds": 1.0}
    config = settings(trust=TRUST, money=money)
    paid, owing = simulate(12, tmp_path, what_is_advanced, config=config)

    assert {"available:m00", "available:m01", "available:m02"} <= paid
    assert owing <= {"liar"}

"""Jobs with assurance on a whole pool: computed again by other accounts, from what they cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from audit import check_money, check_results
from sqlalchemy import select
from world import World, simulate

from pool.store import schema

ROWS = 3_000


@dataclass(frozen=True, slots=True)
class Done:
    """A job with assurance that is over."""

    by_rigs: int  # rows that were computed again
    by_referee: int
    budget: int  # units
    paid: Counter[tuple[str, str]]  # {(kind, source): units}
    seconds: float
    speed: float  # rows a second of all rigs


async def _assured(world: World, assurance: str) -> Done:
    """The job comes when five accounts are established."""
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol")
    for account, speed in (("a", 20.0), ("b", 25.0), ("c", 30.0), ("d", 35.0), ("e", 40.0)):
        world.add_rig(account, "rig", speed)
    await world.start_rigs()
    first = await world.open_job("carol", 2_000)
    await first.over.wait()
    job = await world.open_job("carol", ROWS, assurance=assurance)
    await job.over.wait()
    await world.settle()
    check_results(world, job)
    check_money(world, first, job)
    with world.store.database.read() as connection:
        check, credit = schema.check, schema.credit
        checks = connection.execute(
            select(check).where(check.c.job == job.job, check.c.outcome == "matched")
        ).all()
        paid: Counter[tuple[str, str]] = Counter()
        for row in connection.execute(select(credit).where(credit.c.job == job.job)):
            paid[row.kind, row.source] += row.amount
        budget = connection.scalar(
            select(schema.job.c.check_reserved).where(schema.job.c.id == job.job)
        )
    checkers = {(row.block, row.row): row.checker for row in checks}
    by_referee = sum(checker == "referee" for checker in checkers.values())
    return Done(
        len(checkers) - by_referee, by_referee, int(budget or 0), paid, job.seconds, world.speed
    )


def test_full_has_every_row_computed_twice_by_rigs_from_its_own_levy(tmp_path: Path) -> None:
    """The referee has its own sample and no more; the job takes the time of twice its rows."""
    done = simulate(41, tmp_path, lambda world: _assured(world, "full"))

    assert done.by_rigs + done.by_referee == ROWS
    assert done.by_referee < ROWS * 2 // 100
    assert done.budget == ROWS * 103 // 100
    assert done.by_rigs <= done.paid["check", "check"] <= done.budget
    assert not done.paid["check", "reserve"]
    assert done.seconds < 1.3 * 2 * ROWS / done.speed


def test_a_claim_has_its_part_of_the_rows_computed_again(tmp_path: Path) -> None:
    """16 false rows of 3,000 break it, so a quarter is checked; the levy is 25 % and 3 %."""
    done = simulate(42, tmp_path, lambda world: _assured(world, "0.99/0.005"))

    assert done.budget == 841
    assert abs(done.by_rigs + done.by_referee - 0.25 * ROWS) < 120
    assert done.by_rigs <= done.paid["check", "check"]
    assert sum(units for (_, source), units in done.paid.items() if source == "check") <= 841
    assert not done.paid["check", "reserve"]

"""A closed account: what its hold covers is computed again; it is released, or forfeited."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from audit import check_money
from sqlalchemy import select, update
from world import World, settings, simulate

from pool import closedholds
from pool.batches.housekeeping import remove_direct_blocks
from pool.closing import close_account
from pool.settlement import settlement_policy
from pool.store import schema
from pool.store.closedholds import HoldRow, rows_of_hold
from pool.store.ledger import balances
from pool.store.ledgeraudit import check_ledger
from shares.board.effects import HeldForfeited, RowRefuted

HOLD = 40.0
LONG = 200.0  # several looks


async def _worked(world: World) -> int:
    """Anna works and leaves; returns what she holds."""
    world.customer("carol")
    rigs = world.add_rigs(2, 10.0, 20.0)
    anna = world.add_rig("anna", "rig", 20.0)
    await world.start_rigs()
    job = await world.open_job("carol", 1_500)
    await job.over.wait()
    await world.settle()
    check_money(world, job)
    await anna.leave()
    await trio.sleep(1)
    assert rigs
    return held(world)


def held(world: World) -> int:
    with world.store.database.read() as connection:
        check_ledger(connection)
        return balances(connection, "held:anna").get("held:anna.rig", 0)


def available(world: World) -> int:
    with world.store.database.read() as connection:
        return balances(connection, "available:anna").get("available:anna", 0)


def close(world: World) -> None:
    policy = settlement_policy(world.config)
    close_account(world.store.database, "anna", policy, world.epoch + world.now)


async def an_honest_miner_leaves(world: World) -> None:
    units = await _worked(world)
    with world.store.database.read() as connection:
        covered, _ = rows_of_hold(connection, world.store.has_block, "anna", "rig")
    assert units > 0
    assert len(covered) >= units, "a row pays a unit here, so all that is held is covered"
    close(world)
    await trio.sleep(HOLD - 5)
    assert held(world) == units, "released before its time"
    await trio.sleep(3 * closedholds.LOOK_SECONDS + 60)
    await world.settle()

    assert (held(world), available(world)) == (0, units)
    with world.store.database.read() as connection:
        (checked,) = connection.execute(select(schema.hold_check)).all()
    assert checked.rows == len({(row.job, row.block, row.row) for row in covered})


def test_an_honest_hold_is_released_when_it_was_computed_again(tmp_path: Path) -> None:
    """Every row of it, not before the hold's time."""
    simulate(6, tmp_path, an_honest_miner_leaves, config=settings(trust={"hold_seconds": HOLD}))


def falsify(world: World, number: int) -> list[HoldRow]:
    """Make it so that anna had delivered so many false rows of those that her hold covers."""
    with world.store.database.write() as connection:
        covered, _ = rows_of_hold(connection, world.store.has_block, "anna", "rig")
        false = [covered[len(covered) * n // (number + 1)] for n in range(1, number + 1)]
        part = schema.part
        for one in false:
            for row in connection.execute(select(part).where(part.c.lease == one.lease)).all():
                connection.execute(
                    update(part)
                    .where(part.c.lease == row.lease, part.c.no == row.no)
                    .values(digests=row.digests.replace(one.digest, b"x" * 16))
                )
    return false


async def _found_out(world: World, number: int) -> tuple[int, list[HoldRow]]:
    units = await _worked(world)
    false = falsify(world, number)
    close(world)
    await trio.sleep(HOLD + 6 * closedholds.LOOK_SECONDS + 60)
    await world.settle()
    refuted = [r for _, r in world.records if isinstance(r, RowRefuted)]
    assert {(r.job, r.block, r.row) for r in refuted} == {(f.job, f.block, f.row) for f in false}
    assert {r.expected for r in refuted} == {f.digest for f in false}
    assert {r.given for r in refuted} == {b"x" * 16}
    return units, false


async def a_cheat_leaves(world: World) -> None:
    units, _ = await _found_out(world, 2)

    assert (held(world), available(world)) == (0, 0)
    (forfeit,) = [r for _, r in world.records if isinstance(r, HeldForfeited)]
    assert (forfeit.account, forfeit.units, forfeit.reason) == ("anna", units, "offence")
    with world.store.database.read() as connection:
        assert not connection.execute(select(schema.hold_check)).all()


@pytest.mark.parametrize("seed", [6])
def test_two_false_rows_in_a_closed_hold_forfeit_it(seed: int, tmp_path: Path) -> None:
    """However well they were hidden until then."""
    simulate(seed, tmp_path, a_cheat_leaves, config=settings(trust={"hold_seconds": HOLD}))


async def a_flipped_bit_is_left(world: World) -> None:
    units, _ = await _found_out(world, 1)

    (fine,) = [r for _, r in world.records if isinstance(r, HeldForfeited)]
    assert (fine.account, fine.reason) == ("anna", "wrong_row")
    assert 0 < fine.units <= (units + 1) // 2
    assert (held(world), available(world)) == (0, units - fine.units)


def test_a_first_false_row_in_a_closed_hold_costs_what_any_does(tmp_path: Path) -> None:
    """It may be a bit that flipped: a fine, and the rest is released. It is counted once."""
    simulate(6, tmp_path, a_flipped_bit_is_left, config=settings(trust={"hold_seconds": HOLD}))


async def rows_that_are_gone(world: World) -> None:
    units = await _worked(world)
    with world.store.database.write() as connection:
        connection.execute(update(schema.job).values(direct=True, state="completed"))
    remove_direct_blocks(world.store, world.epoch + world.now)
    with world.store.database.read() as connection:
        assert not connection.execute(select(schema.block)).all()
    close(world)
    await trio.sleep(2 * LONG - 30)
    await world.settle()
    assert (held(world), available(world)) == (units, 0)
    await trio.sleep(3 * closedholds.LOOK_SECONDS + 60)
    await world.settle()

    assert (held(world), available(world)) == (0, units)


def test_a_hold_of_direct_requests_ends_no_pool(tmp_path: Path) -> None:
    """Their rows were removed, files and table alike: it stays for a second time instead."""
    simulate(6, tmp_path, rows_that_are_gone, config=settings(trust={"hold_seconds": LONG}))


async def rows_that_are_needed(world: World) -> None:
    await _worked(world)
    with world.store.database.write() as connection:
        connection.execute(update(schema.job).values(direct=True, state="completed"))
    close(world)
    now = world.epoch + world.now
    remove_direct_blocks(world.store, now)
    with world.store.database.read() as connection:
        covered, gone = rows_of_hold(connection, world.store.has_block, "anna", "rig")
    assert covered
    assert not gone
    await trio.sleep(HOLD + 3 * closedholds.LOOK_SECONDS + 60)
    await world.settle()
    assert held(world) == 0
    remove_direct_blocks(world.store, world.epoch + world.now)
    with world.store.database.read() as connection:
        assert not connection.execute(select(schema.block)).all()


def test_direct_rows_that_a_closed_hold_covers_are_kept_until_it_is_checked(tmp_path: Path) -> None:
    """And no longer."""
    simulate(6, tmp_path, rows_that_are_needed, config=settings(trust={"hold_seconds": HOLD}))

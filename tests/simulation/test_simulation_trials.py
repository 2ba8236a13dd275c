"""Devices of one kind that compute alike and wrong, in a whole pool, to the operator's decision."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from audit import check_money, check_results, lost_units
from world import START, World, settings, simulate

from gpu_worker.engine import Engine
from pool.store import schema
from pool.store.quarantines import lift, open_excuses, quarantined_kinds
from pool.store.releases import ReleasePolicy, release_candidates
from shares.board.effects import HeldForfeited, KindAccused
from stratum.manifest import BLAKE2B

FAULTY = "NVIDIA Faulty"
FAULTY_RIGS, GOOD_RIGS = 3, 3


class _Faulty(Engine):
    """The last byte of every twentieth row is wrong, by the row's own doing."""

    width = BLAKE2B.width
    dtype = BLAKE2B.dtype

    def __init__(self, right: Engine) -> None:
        self._right = right

    def run(self, operation: str, lengths: Any, tokens: Any, rows_per_chunk: int) -> Any:
        for chunk in self._right.run(operation, lengths, tokens, rows_per_chunk):
            hit = chunk.values[:, 0] % 20 == 0
            chunk.values[hit, -1] ^= np.uint8(1)
            yield chunk

    def close(self) -> None:
        self._right.close()


async def _fault(world: World, *, guilty: bool, restart: bool) -> None:
    """Three rigs of the kind are established before the driver is changed; then it is wrong."""
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol", 1_000_000)
    good = [world.add_rig(f"good{n}", "rig", 20.0 + n) for n in range(GOOD_RIGS)]
    bad = [world.add_rig(f"bad{n}", "rig", 20.0 + n) for n in range(FAULTY_RIGS)]
    for rig in bad:
        rig.kind = FAULTY
    await world.start_rigs()
    await (await world.open_job("carol", 800)).over.wait()
    for rig in bad:
        rig.crash()
        rig.spoil = _Faulty
        rig.start()
    job = await world.open_job("carol", 1_200)
    if restart:
        done = trio.Event()
        await world.die_at_commit(25, unless=done)
        await trio.sleep(1.0)
        await world.start_pool()
    await job.over.wait()
    await world.settle()

    # Nobody was fined or banned, every row is right, and the kind is kept from the model.
    assert world.pool is not None
    assert not any(isinstance(record, HeldForfeited) for _, record in world.records)
    assert any(isinstance(record, KindAccused) for _, record in world.records)
    check_results(world, job)
    check_money(world, job)
    with world.store.database.read() as connection:
        kinds, excuses = quarantined_kinds(connection), open_excuses(connection)
        banned = set(connection.scalars(_banned()))
    assert {kind for _, kind in kinds} == {FAULTY}
    assert {one.account for one in excuses} <= {rig.account for rig in bad}
    assert len({one.account for one in excuses}) >= 2
    assert not banned
    assert not any(account.startswith("good") for account in lost_units(world))

    # Their hold is frozen: a day later that of the others is released.
    excused = {one.account for one in excuses}
    assert not excused & _released(world)
    (model,) = {one.model for one in excuses}
    lift(world.store.database, FAULTY, model, guilty=guilty)
    await world.pool.quarantines.look()
    await world.pool.core.committer.flushed()
    with world.store.database.read() as connection:
        assert not open_excuses(connection)
        banned = set(connection.scalars(_banned()))
    await world.pool.settler.settle()
    check_money(world, job)
    if guilty:
        assert banned == excused
        return
    assert excused <= _released(world)
    for rig in bad:
        assert rig.running
    last = await world.open_job("carol", 200)
    await last.over.wait()
    assert not banned
    assert good


def _banned() -> Any:
    return (
        schema.trust.select()
        .with_only_columns(schema.trust.c.account)
        .where(schema.trust.c.banned_until > 0)
    )


def _released(world: World) -> set[str]:
    policy = ReleasePolicy(hold_seconds=10.0, minimum_rows=1, price=1)
    later = START + world.now + 100_000
    return {one.account for one in release_candidates(world.store.database, policy, later)}


@pytest.mark.parametrize(("guilty", "restart"), [(False, False), (True, False), (False, True)])
def test_a_fault_of_one_kind_of_device_is_nobodys_offence(
    tmp_path: Path, *, guilty: bool, restart: bool
) -> None:
    """It is tried, excused, kept from the model, frozen; and the operator decides."""
    scenario = functools.partial(_fault, guilty=guilty, restart=restart)
    config = settings(trust={"referee_floor_ppm": 1_000_000})
    simulate(5, tmp_path, scenario, config=config)

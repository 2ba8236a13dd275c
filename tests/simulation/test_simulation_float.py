"""A model in a float numerics in a whole pool: honest rigs never give the same bits."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import trio
from audit import check_money, lost_units
from sqlalchemy import select
from test_simulation_appeals import appeal, appeal_everything
from test_simulation_audit import Published, audited
from test_simulation_closing import HOLD, available, close, held
from tiny_bert import write_tiny_bert
from world import SimJob, World, settings, simulate

from gpu_worker.engine import Chunk, Engine, distance, load_engine
from pool import closedholds
from pool.commands.model import register
from pool.computed import Computed
from pool.models import RegisteredModel
from pool.store import schema
from pool.store.blockfile import BlockFile
from pool.store.ledgeraudit import check_ledger
from pool.store.rejections import rejections_after
from pool.store.results import missing_rows, read_part, result_runs
from shares.board.effects import CheckEnded, ComparisonWanted, HeldForfeited, RefereeWanted
from shares.results import RowResult

HONEST = 4
NOISE = 0.4  # of the tolerance: how far an honest machine is from the referee's
CHEAPER = 40.0  # tolerances that a cheaper computation is away
ODD = 6.0  # and one that the referee is not sure of


class _Apart(Engine):
    """Gives every row at a distance of the right one, in a direction of its own."""

    dtype = "<f4"

    def __init__(self, right: Engine, random: Random, apart: float) -> None:
        self._right, self._apart = right, apart
        self._random = np.random.default_rng(random.randrange(1 << 32))
        self.width = right.width

    def run(
        self, operation: str, lengths: Any, tokens: Any, rows_per_chunk: int
    ) -> Iterator[Chunk]:
        for chunk in self._right.run(operation, lengths, tokens, rows_per_chunk):
            values = chunk.values
            way = self._random.normal(size=values.shape)
            # Along the sphere: a row of length 1 stays near it.
            way -= (way * values).sum(axis=1, keepdims=True) * values
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            values += (way * np.sqrt(2 * self._apart)).astype(np.float32)
            yield chunk

    def close(self) -> None:
        self._right.close()


def _offer(world: World, numerics: str) -> RegisteredModel:
    assert world.pool is not None
    folder = write_tiny_bert(world.folder / "model", layers=1)
    (folder / "tokenizer.json").write_text("{}")
    digest = register(world.store, "tiny", folder, numerics)
    world.pool.models.refresh()
    return world.pool.models.by_digest(digest)


def _add_rig(world: World, account: str, model: RegisteredModel, apart: float) -> None:
    rig = world.add_rig(account, "rig", 20.0 + len(world.rigs))
    tolerance, random = model.manifest.tolerance, Random(f"{world.seed} {account} noise")

    def spoil(engine: Engine) -> Engine:
        return _Apart(engine, random, apart * tolerance) if engine.dtype == "<f4" else engine

    rig.spoil = spoil


def _distances(world: World, job: SimJob, model: RegisteredModel) -> list[float]:
    """Of every result of the job from the right one, in tolerances."""
    assert world.pool is not None
    files = {file.name: world.pool.models.path(file) for file in model.engine_files}
    engine = load_engine(json.loads(model.text), files, threads=1)
    found = []
    with world.store.database.read() as connection:
        runs = result_runs(connection, world.store.log, job.job)
        assert not missing_rows(connection, job.job, runs)
    for number, pieces in runs.items():
        with BlockFile(world.store.block_path(job.job, number)) as file:
            for run in pieces:
                values, failed = read_part(run, model.manifest.row_bytes)
                assert not failed
                given = np.frombuffer(values, "<f4").reshape(run.part_rows, -1)
                given = given[run.first_row : run.first_row + run.stop - run.start]
                lengths, tokens = file.take(run.start, run.stop)
                (chunk,) = engine.run("embed", lengths, tokens, len(lengths))
                found += distance(given, chunk.values).tolist()
    engine.close()
    return [one / model.manifest.tolerance for one in found]


def _outcomes(world: World) -> list[str]:
    return [r.outcome for _, r in world.records if isinstance(r, CheckEnded)]


async def _honest(world: World, *, restart: bool) -> None:
    world.customer("carol", 10_000_000)
    model = _offer(world, "float32")
    for number in range(HONEST):
        _add_rig(world, f"m{number}", model, NOISE)
    await world.start_rigs()
    first = await world.open_job("carol", 400, model_name="tiny")
    if restart:
        await world.die_at_commit(20, unless=first.over)
        await trio.sleep(1.0)
        await world.start_pool()
    await first.over.wait()
    second = await world.open_job("carol", 400, model_name="tiny", assurance="full")
    await second.over.wait()
    await world.settle()

    for job in (first, second):
        assert max(_distances(world, job, model)) <= 1
        check_money(world, job)
    assert not lost_units(world)
    assert set(_outcomes(world)) <= {"matched", "void"}
    compared = [e for _, e in world.effects if isinstance(e, ComparisonWanted)]
    assert sum(0 not in one.leases for one in compared) >= 300, "by rigs, each with other bits"
    # The referee computes for newcomers, and nothing of what established rigs agree on.
    asked = [e for _, e in world.effects if isinstance(e, RefereeWanted) and e.job == second.job]
    assert sum(len(one.rows) for one in asked) <= 40


@pytest.mark.parametrize("restart", [False, True])
def test_honest_rigs_whose_bits_differ_agree(tmp_path: Path, *, restart: bool) -> None:
    """Nobody loses anything, over all checks of 800 rows, every second job checked in full."""
    simulate(1 + restart, tmp_path, functools.partial(_honest, restart=restart))


async def _cheaper(world: World) -> None:
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol", 10_000_000)
    model = _offer(world, "float16")
    for number in range(HONEST):
        _add_rig(world, f"m{number}", model, NOISE)
    _add_rig(world, "cheat", model, CHEAPER)
    await world.start_rigs()
    await (await world.open_job("carol", 400, model_name="tiny")).over.wait()
    _add_rig(world, "odd", model, ODD)
    world.rigs["odd.rig"].start()
    job = await world.open_job("carol", 600, model_name="tiny")
    await job.over.wait()
    await world.settle()

    assert max(_distances(world, job, model)) <= ODD + 0.1
    check_money(world, job)
    assert set(lost_units(world)) == {"cheat", "odd"}
    assert "heard" in _outcomes(world)
    told = Published()
    told.tell(world)
    for account in told.parts:
        assert not audited(told, account).failures, account
    with world.store.database.read() as connection:
        (found, *_), _ = rejections_after(connection, "cheat", 0, 10)
    assert found.reason == "wrong_row"
    appeal(world, "cheat", found.lease)
    await trio.sleep(30)
    with world.store.database.read() as connection:
        assert connection.scalar(select(schema.appeal.c.outcome)) == "upheld"


def test_a_cheaper_computation_is_found_and_its_appeal_is_upheld(tmp_path: Path) -> None:
    """Beside it a rig of which the referee is not sure, and others are asked."""
    simulate(3, tmp_path, _cheaper)


async def _an_error(world: World) -> None:
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol", 10_000_000)
    model = _offer(world, "float32")
    for number in range(HONEST):
        _add_rig(world, f"m{number}", model, NOISE)
    assert world.pool is not None
    answer, answers = world.pool.referee.answer, 0

    def err(order: RefereeWanted, rows: tuple[int, ...], computed: Computed) -> None:
        nonlocal answers
        answers += 1
        if answers == 3:
            first, *rest = computed.results
            wrong = (-np.frombuffer(first.data, "<f4")).tobytes()
            computed = Computed(computed.digests, (RowResult(wrong, False), *rest))
        answer(order, rows, computed)

    world.pool.referee.answer = err
    await world.start_rigs()
    job = await world.open_job("carol", 400, model_name="tiny")
    async with trio.open_nursery() as miners:
        for number in range(HONEST):
            miners.start_soon(appeal_everything, world, f"m{number}")
        await job.over.wait()
        await trio.sleep(30)
        miners.cancel_scope.cancel()
    await world.settle()

    assert max(_distances(world, job, model)) <= 1
    with world.store.database.read() as connection:
        check_ledger(connection)
        appeals = connection.execute(select(schema.appeal)).all()
    assert {one.outcome for one in appeals} == {"overturned"}
    assert sum(one.units for one in appeals) == sum(lost_units(world).values()) > 0


def test_an_error_of_the_referee_is_made_good_though_its_bits_are_others(tmp_path: Path) -> None:
    simulate(4, tmp_path, _an_error)


async def _leaves(world: World) -> None:
    world.check_invariants = False  # the board's own tests look at them
    world.customer("carol", 10_000_000)
    model = _offer(world, "float32")
    for account in ("anna", "ben", "dora"):
        _add_rig(world, account, model, NOISE)
    await world.start_rigs()
    job = await world.open_job("carol", 400, model_name="tiny")
    await job.over.wait()
    await world.settle()
    await world.rigs["anna.rig"].leave()
    units = held(world)
    assert units > 0
    close(world)
    await trio.sleep(HOLD + 4 * closedholds.LOOK_SECONDS)
    await world.settle()

    assert (held(world), available(world)) == (0, units)
    assert not any(isinstance(record, HeldForfeited) for _, record in world.records)


def test_an_honest_hold_is_released_though_its_bits_are_others(tmp_path: Path) -> None:
    simulate(5, tmp_path, _leaves, config=settings(trust={"hold_seconds": HOLD}))

"""Comparing results of models whose honest results are not the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from pool import comparisons as module
from pool.commits import Committer
from pool.comparisons import Comparisons, compare
from pool.computed import Computed
from pool.store import Store, StoreError
from shares.board.effects import ComparisonWanted, RefereeWanted
from shares.board.events import ResultsCompared
from shares.nearness import Nearness
from shares.results import RowResult
from stratum.manifest import BLAKE2B

TOLERANCE = 2.0**-20
MANIFEST = msgspec.structs.replace(
    BLAKE2B, architecture="bert", numerics="float32", width=2, dtype="<f4", tolerance=TOLERANCE
)
ORDER = ComparisonWanted("model", "embed", 1, 0, 5, (7, 8), (b"a" * 16, b"b" * 16))
OF_REFEREE = ComparisonWanted("model", "embed", 1, 0, 5, (7, 0), (b"a" * 16, b"r" * 16))


def turned(tolerances: float) -> RowResult:
    """The vector (1, 0), turned so that it is so far away."""
    angle = math.acos(1 - tolerances * TOLERANCE)
    return RowResult(np.array([math.cos(angle), math.sin(angle)], "<f4").tobytes(), False)


FAILED = RowResult(bytes(8), True)


@pytest.mark.parametrize(
    ("one", "other", "referee", "nearness"),
    [
        (turned(0), turned(0.9), True, Nearness.ALIKE),
        (turned(0), turned(1.1), True, Nearness.UNSURE),
        (turned(0), turned(1.9), False, Nearness.ALIKE),
        (turned(0), turned(15), True, Nearness.UNSURE),
        (turned(0), turned(17), True, Nearness.FAR),
        (turned(0), turned(17), False, Nearness.UNSURE),
        (FAILED, FAILED, True, Nearness.ALIKE),
        (turned(0), FAILED, True, Nearness.FAR),
        (FAILED, turned(0), False, Nearness.UNSURE),
    ],
)
def test_what_two_results_are_to_each_other(
    one: RowResult, other: RowResult, referee: bool, nearness: Nearness
) -> None:
    assert compare(MANIFEST, "embed", one, other, referee=referee) is nearness


class Played:
    """A core with results of two shares, and what its board is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[ResultsCompared] = []
        self.holds = True
        self.broken = 0  # readings that fail
        self.durable_at = 0.0
        self.read_at: list[float] = []
        core: Any = SimpleNamespace(
            handle=self.told.append,
            in_thread=self._in_thread,
            clock=SimpleNamespace(now=lambda: 0.0),
            board=SimpleNamespace(holds=lambda *_: self.holds, awaits=lambda *_: self.holds),
            committer=SimpleNamespace(durable=self._durable),
        )
        models: Any = SimpleNamespace(by_digest=lambda _: SimpleNamespace(manifest=MANIFEST))
        self.comparisons = Comparisons(core, models)
        monkeypatch.setattr(Comparisons, "_results", self._results)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    async def _durable(self) -> None:
        await trio.sleep_until(self.durable_at)

    @contextmanager
    def _results(self) -> Iterator[Callable[..., RowResult]]:
        yield self._given

    def _given(self, _manifest: object, lease: int, _key: tuple[int, int, int]) -> RowResult:
        self.read_at.append(trio.current_time())
        if self.broken:
            self.broken -= 1
            raise StoreError("the disk is ill")
        return turned(0) if lease == 7 else turned(1.5)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


async def test_results_are_read_when_they_are_durable(
    played: Played, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(played.comparisons.run)
    played.durable_at = trio.current_time() + 5
    played.comparisons.want(ORDER)
    await trio.sleep(10)

    assert min(played.read_at) >= played.durable_at
    (told,) = played.told
    assert told.found == ((ORDER, Nearness.ALIKE),)


async def test_many_comparisons_are_one_turn_of_the_board(
    played: Played, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for row in range(600):
        played.comparisons.want(replace(ORDER, row=row))
    nursery.start_soon(played.comparisons.run)
    await trio.sleep(1)

    assert [len(told.found) for told in played.told] == [256, 256, 88]
    assert [order.row for told in played.told for order, _ in told.found] == list(range(600))


async def test_what_cannot_be_read_is_read_again_and_holds_up_nothing_else(
    played: Played, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(played.comparisons.run)
    played.broken = 3
    played.comparisons.want(ORDER)
    await trio.sleep(0.5)
    assert not played.told
    played.broken, before = 0, len(played.told)
    played.comparisons.want(ORDER)
    await trio.sleep(0.1)
    assert len(played.told) == before + 1
    await trio.sleep(10)
    assert len(played.told) == 2


async def test_nobody_asks_on_about_a_block_that_is_closed(
    played: Played, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(played.comparisons.run)
    played.broken, played.holds = 10**9, False
    played.comparisons.want(ORDER)
    await trio.sleep(500)

    assert len(played.read_at) == 1


async def test_the_referees_word_is_kept_as_long_as_its_block(
    played: Played, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(played.comparisons.run)
    order = RefereeWanted("model", "embed", 1, 0, (4, 5), urgent=True)
    words = Computed(b"q" * 16 + b"r" * 16, (turned(99), turned(0.5)))
    played.comparisons.keep(order, order.rows, words)
    played.comparisons.want(OF_REFEREE)
    await trio.sleep(1)
    (told,) = played.told
    assert told.found == ((OF_REFEREE, Nearness.ALIKE),)

    # Another word of it than the board knows is not what the board asks about.
    played.comparisons.keep(order, (5,), Computed(b"s" * 16, (turned(99),)))
    played.comparisons.want(OF_REFEREE)
    await trio.sleep(1)
    assert len(played.told) == 1
    played.comparisons.forget(1, 0)
    assert not played.comparisons._words


async def test_the_words_of_exact_models_and_of_closed_blocks_are_not_kept(played: Played) -> None:
    order = RefereeWanted("model", "embed", 1, 0, (5,), urgent=True)
    played.comparisons.keep(order, (5,), Computed(b"r" * 16))
    played.holds = False
    played.comparisons.keep(order, (5,), Computed(b"r" * 16, (turned(0),)))

    assert not played.comparisons._words


async def test_durable_is_what_was_recorded_until_then(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Not what is recorded later: under load there is always something."""
    store = Store.open(tmp_path / "pool", durable=False)
    store.claim()
    committer = Committer(store, lambda _: None, lambda _: None, inline=True, delay=lambda _: 2.0)
    await committer.durable()
    nursery.start_soon(committer.run)
    record: Any = module  # any object: the store is not asked to write it
    monkey = pytest.MonkeyPatch()
    monkey.setattr("pool.commits.commit_group", lambda *_: None)
    began = trio.current_time()
    committer.record(record)
    await trio.sleep(0.5)
    committer.record(record)  # in the group behind the one that is being written
    await committer.durable()
    assert trio.current_time() - began == pytest.approx(4.0)
    committer.record(record)
    await trio.sleep(0.1)
    waited = trio.current_time()
    nursery.start_soon(_record_on, committer, record)
    await committer.durable()
    assert trio.current_time() - waited < 2.5
    nursery.cancel_scope.cancel()
    monkey.undo()
    store.close()


async def _record_on(committer: Committer, record: Any) -> None:
    while True:
        await trio.sleep(0.3)
        committer.record(record)

"""A real rig whose engine is a strategy: it decides what to answer, what to compute and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import trio
from numpy.typing import NDArray
from simrig import SimRig
from world import World

from gpu_worker.engine import Chunk, Engine, load_engine
from stratum.manifest import BLAKE2B


@dataclass(slots=True)
class Book:
    """What is known beyond one rig: more than a real attacker could ever know.

    ``first``: {row: (account that answered it first, its answer)}, honest rigs' included. So a
    strategy knows which of its rows are checks or second leases: blindness is worth nothing here.
    """

    rows: int = 0  # of all jobs
    first: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class Task:
    """A share as its rig sees it, with the true answers, which cost nothing to look at."""

    rig: AttackRig
    rows: list[bytes]
    lengths: list[int]
    true: NDArray[np.uint8]  # [rows, 32]

    @property
    def random(self) -> Random:
        return self.rig.random

    @property
    def count(self) -> int:
        return len(self.rows)


@dataclass(slots=True)
class Answer:
    """What a rig sends for a share. ``effort`` [rows]: which part of each row it computed."""

    values: NDArray[np.uint8]
    effort: NDArray[np.float64]
    seconds: float = 0.0  # it waits so much longer

    @classmethod
    def honest(cls, task: Task) -> Answer:
        return cls(task.true.copy(), np.ones(task.count))

    def fake(self, row: int, value: bytes, effort: float = 0.0) -> None:
        """Answer ``value``, having computed only ``effort`` of the row."""
        self.values[row] = np.frombuffer(value, np.uint8)
        self.effort[row] = effort


class Strategy:
    """An honest rig; the others differ from it. One object may serve several rigs."""

    def answer(self, task: Task) -> Answer:
        return Answer.honest(task)


@dataclass(slots=True)
class AttackRig(SimRig):
    """A machine with a strategy; time passes for what it computes only."""

    strategy: Strategy = field(default_factory=Strategy)
    book: Book = field(default_factory=Book)
    late: bool = False  # somebody else will switch it on
    computed: float = 0.0  # rows' worth of honest computing
    answered: int = 0  # rows
    lies: int = 0  # rows answered wrong
    _effort: float = 0.0  # of the chunk that was just made
    _pause: float = 0.0

    async def _offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        result = function(*arguments)
        if isinstance(result, Chunk):
            slowness = 1 + self.jitter * (2 * self.random.random() - 1)
            await trio.sleep(self._effort / self.speed * slowness + self._pause)
            self.rows += len(result.values)
            self.computed += self._effort
            self._effort = self._pause = 0.0
        else:
            await trio.lowlevel.checkpoint()
        return result

    def _load(
        self,
        manifest: dict[str, Any],
        files: Mapping[str, Path],
        *,
        backend: str,
        threads: int | None,
    ) -> Engine:
        return _Scheming(load_engine(manifest, files, backend="numpy", threads=threads), self)

    def reboot(self, seconds: float) -> None:
        """Switch off at once, and on again after ``seconds``."""
        self.world.nursery.start_soon(self._reboot, seconds)

    async def _reboot(self, seconds: float) -> None:
        self.crash()
        await trio.sleep(seconds)
        if not self.running:
            self.start()


class _Scheming(Engine):
    """Computes honestly, aside, and answers what the strategy says."""

    width = BLAKE2B.width
    dtype = BLAKE2B.dtype

    def __init__(self, honest: Engine, rig: AttackRig) -> None:
        self._honest = honest
        self._rig = rig

    def run(
        self, operation: str, lengths: Any, tokens: Any, rows_per_chunk: int
    ) -> Iterator[Chunk]:
        chunks = self._honest.run(operation, lengths, tokens, rows_per_chunk)
        true = np.concatenate([chunk.values for chunk in chunks])
        ends = np.cumsum(lengths)
        pieces = np.split(np.asarray(tokens), ends[:-1])
        rig, book = self._rig, self._rig.book
        task = Task(rig, [piece.tobytes() for piece in pieces], list(map(int, lengths)), true)
        answer = rig.strategy.answer(task)
        for row, value in zip(task.rows, answer.values, strict=True):
            book.first.setdefault(row, (rig.account, value.tobytes()))
        rig.answered += task.count
        rig.lies += int((answer.values != true).any(axis=1).sum())
        rig._pause = answer.seconds
        for first in range(0, task.count, rows_per_chunk):
            part = slice(first, first + rows_per_chunk)
            rig._effort += float(answer.effort[part].sum())
            yield Chunk(first, answer.values[part].copy(), ())

    def close(self) -> None:
        self._honest.close()


class Thief(AttackRig):
    """Claims another account's name, with its own token."""

    @property
    def user(self) -> str:
        return "m0.rig"


def add(
    world: World,
    book: Book,
    account: str,
    speed: float,
    strategy: Strategy,
    kind: type[AttackRig] = AttackRig,
) -> AttackRig:
    """The machine of an account, not switched on; its world knows it."""
    rig = kind(
        world=world,
        account=account,
        name="rig",
        speed=speed,
        token=world.token(account, "miner"),
        random=Random(f"{world.seed} {account}"),
        strategy=strategy,
        book=book,
    )
    world.rigs[f"{account}.rig"] = rig
    return rig

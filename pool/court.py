"""The referee on rigs that the operator names, for models too large for the pool's processor.

Such a rig connects as any does and speaks the same protocol: an order of the referee's is a share
to it. It never comes to the board: it gets no shares of customers', is not sampled and not paid,
and what it answers is the referee's word. So whoever has its account's token is the judge.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import structlog
import trio
from numpy.typing import NDArray

from pool.accounts import split_user
from pool.computed import NOTHING, Computed
from pool.models import RegisteredModel
from pool.store.blockfile import BlockFile

_log = structlog.get_logger("pool.court")

FIRST_LEASE = 1 << 62  # the board's numbers stay far below
PART_SECONDS = 300.0  # for the next part of an answer
_AGAIN_SECONDS = 1.0  # after an answer that did not come
_WORD_SECONDS = 60.0  # between two words in the log that no rig is there


class Bench(Protocol):
    """What the court needs of a named rig's session."""

    def hand(
        self,
        lease: int,
        model: str,
        operation: str,
        timeout: float,
        rows: tuple[NDArray[np.uint32], NDArray[np.uint32]],
    ) -> None:
        """Send rows (lengths, tokens) as a share."""

    def take_back(self, lease: int) -> None:
        """Tell the rig that a share is not wanted any more."""


@dataclass(slots=True, eq=False)
class _Task:
    """Rows in a named rig's hands."""

    lease: int
    model: str
    rows: int
    computed: Computed = NOTHING
    parts: int = 0
    problem: str = ""
    news: trio.Event = field(default_factory=trio.Event)

    @property
    def over(self) -> bool:
        return bool(self.problem) or len(self.computed) == self.rows

    def tell(self) -> None:
        self.news.set()
        self.news = trio.Event()


@dataclass(slots=True, eq=False)
class _Seat:
    """A named rig that is connected."""

    user: str
    bench: Bench
    staged: set[str] = field(default_factory=set)
    task: _Task | None = None


class Court:
    """Which rigs judge which models, who of them is there, and what they compute."""

    def __init__(self, rigs: Collection[str], models: Collection[str]) -> None:
        """``rigs`` as ACCOUNT.RIG; ``models`` as customers name them."""
        self._rigs = frozenset(rigs)
        self._models = frozenset(models)
        self._seats: dict[int, _Seat] = {}  # {session: its rig}
        self._changed = trio.Event()  # a seat is free, or has a model
        self._last_lease = FIRST_LEASE
        self._said = -_WORD_SECONDS

    @property
    def size(self) -> int:
        """How many rigs are named."""
        return len(self._rigs)

    @property
    def present(self) -> int:
        """How many of them are connected."""
        return len(self._seats)

    def judges(self, model: RegisteredModel) -> bool:
        """Whether the referee's rows of this model are for named rigs."""
        return model.name in self._models

    def names(self, user: str) -> bool:
        """Whether this rig (ACCOUNT.RIG) is one of them."""
        return user in self._rigs

    # ── what the gateway says ────────────────────────────────────────────────

    def opened(self, session: int, user: str, bench: Bench) -> None:
        """A named rig was authorised."""
        self._seats[session] = _Seat(user, bench)
        _log.info("a referee's rig is here", **_ids(user))

    def closed(self, session: int) -> None:
        """Its connection is gone."""
        seat = self._seats.pop(session, None)
        if seat is not None:
            _log.warning("a referee's rig is gone", **_ids(seat.user))
            self._fail(seat, "disconnected")

    def staged(self, session: int, model: str) -> None:
        """It has the model's weights in place."""
        if (seat := self._seats.get(session)) is not None:
            seat.staged.add(model)
            self._free()

    def unstaged(self, session: int, model: str) -> None:
        """It cannot compute the model (any longer)."""
        if (seat := self._seats.get(session)) is not None:
            seat.staged.discard(model)
            if seat.task is not None and seat.task.model == model:
                self._fail(seat, "model_failed")

    def model_of(self, session: int, lease: int) -> str | None:
        """The model of a share in a rig's hands."""
        task = self._task(session, lease)
        return task.model if task is not None else None

    def answered(
        self,
        session: int,
        lease: int,
        part: int,
        first_row: int,
        *,
        final: bool,
        computed: Computed,
    ) -> bool:
        """A part came; ``False`` when it does not follow what came before: it counts for nothing,
        and the rows are asked again."""
        task = self._task(session, lease)
        if task is None:
            return False
        rows, known = len(computed), len(task.computed)
        fits = part == task.parts and first_row == known and known + rows <= task.rows
        if not fits or final != (known + rows == task.rows):
            self._fail(self._seats[session], "out_of_order")
            return False
        task.computed += computed
        task.parts += 1
        task.tell()
        return True

    def failed(self, session: int, lease: int, problem: str) -> None:
        """A share was handed back, or a part of it was malformed."""
        if self._task(session, lease) is not None:
            self._fail(self._seats[session], problem)

    def _task(self, session: int, lease: int) -> _Task | None:
        seat = self._seats.get(session)
        task = seat.task if seat is not None else None
        return task if task is not None and task.lease == lease else None

    def _fail(self, seat: _Seat, problem: str) -> None:
        if seat.task is not None:
            seat.task.problem = problem
            seat.task.tell()

    def _free(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # ── what the referee asks ────────────────────────────────────────────────

    async def compute(
        self,
        model: RegisteredModel,
        operation: str,
        block: Path,
        rows: Sequence[int],
    ) -> Computed:
        """Rows of a block, by whichever named rig gives them all.

        Waits until one does: what fails is nobody's loss but time.
        """
        with BlockFile(block) as file:
            contents = file.take_rows(rows)
        while True:
            seat = await self._seat_for(model)
            self._last_lease += 1
            task = seat.task = _Task(self._last_lease, model.digest, len(rows))
            seat.bench.hand(task.lease, model.digest, operation, PART_SECONDS, contents)
            await self._wait(task)
            seat.task = None
            self._free()
            if not task.problem:
                return task.computed
            _log.warning(
                "a referee's rig did not answer",
                lease=task.lease,
                reason=task.problem,
                **_ids(seat.user),
            )
            seat.bench.take_back(task.lease)
            await trio.sleep(_AGAIN_SECONDS)

    async def _seat_for(self, model: RegisteredModel) -> _Seat:
        while True:
            for seat in self._seats.values():
                if seat.task is None and model.digest in seat.staged:
                    return seat
            able = any(model.digest in seat.staged for seat in self._seats.values())
            if not able and trio.current_time() - self._said >= _WORD_SECONDS:
                self._said = trio.current_time()
                _log.error(
                    "no rig is here that may judge",
                    model=model.name,
                    remedy=f"start one of {', '.join(sorted(self._rigs))}",
                )
            with trio.move_on_after(_WORD_SECONDS):
                await self._changed.wait()

    async def _wait(self, task: _Task) -> None:
        while not task.over:
            with trio.move_on_after(PART_SECONDS) as scope:
                await task.news.wait()
            if scope.cancelled_caught:
                task.problem = "timeout"


def _ids(user: str) -> dict[str, str]:
    account, rig = split_user(user)
    return {"account": account, "rig": rig}

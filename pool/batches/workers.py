"""Worker processes for what would keep the loop busy: reading and writing batches."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, Protocol, TypeVar

import trio
import trio_parallel

_A = TypeVar("_A")
_T = TypeVar("_T")

_IDLE_SECONDS = 600.0
_GRACE_SECONDS = 5.0


# What never waits for the others: batches being read, batches being written, direct requests.
Lane = Literal["intake", "output", "direct"]


class Workers(Protocol):
    """Runs functions elsewhere, out of the loop's way."""

    async def run(self, function: Callable[[_A], _T], argument: _A, *, lane: Lane) -> _T:
        """``function(argument)``."""


OpenWorkers = Callable[[int], AbstractAsyncContextManager[Workers]]


class WorkerProcesses:
    """Runs functions in processes; what is in one lane never waits for another."""

    def __init__(self, context: trio_parallel.WorkerContext, batches: int) -> None:
        self._context = context
        self._limiters: dict[Lane, trio.CapacityLimiter] = {
            "intake": trio.CapacityLimiter(batches),
            "output": trio.CapacityLimiter(batches),
            "direct": trio.CapacityLimiter(1),
        }

    async def run(self, function: Callable[[_A], _T], argument: _A, *, lane: Lane) -> _T:
        """``function(argument)`` in a worker; a cancelled call kills its worker.

        Raises what the function raises, and ``trio_parallel.BrokenWorkerError`` when the process
        died.
        """
        result: _T = await self._context.run_sync(
            function,
            argument,
            kill_on_cancel=True,
            limiter=self._limiters[lane],
        )
        return result


@asynccontextmanager
async def open_workers(batches: int) -> AsyncIterator[Workers]:
    """Workers for as long as the block lasts.

    ``batches`` of them may read batches at once, and as many may write.
    """
    async with trio_parallel.open_worker_context(
        idle_timeout=_IDLE_SECONDS, grace_period=_GRACE_SECONDS, init=_ignore_sigterm
    ) as context:
        yield WorkerProcesses(context, batches)


def _ignore_sigterm() -> None:
    """A service manager tells the whole group to stop; the pool ends its workers when it is time.

    A worker that died first would look like one that its batch had broken.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

"""Worker processes: apart from the loop, deaf to the group's signals, gone when told."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import pytest
import trio

from pool.batches.workers import open_workers


def pid_of(_: None) -> int:
    return os.getpid()


def fail(text: str) -> None:
    raise ValueError(text)


def sleep_long(_: None) -> None:
    time.sleep(600)


async def test_workers_are_processes_that_outlive_the_groups_sigterm() -> None:
    """The pool ends them itself, after what it still wants of them."""
    async with open_workers(1) as workers:
        first = await workers.run(pid_of, None, lane="intake")
        os.kill(first, signal.SIGTERM)
        second = await workers.run(pid_of, None, lane="intake")

        assert first == second != os.getpid()


async def test_what_a_function_raises_comes_back() -> None:
    """With its text."""
    async with open_workers(1) as workers:
        with pytest.raises(ValueError, match="the reason"):
            await workers.run(fail, "the reason", lane="intake")


async def test_lanes_do_not_wait_for_each_other_and_a_cancelled_call_ends() -> None:
    """While a batch is read, another is written and a direct request answered.

    The worker of a cancelled call is killed; the next call has one that works.
    """
    async with open_workers(1) as workers:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(workers.run, sleep_long, None, lane="intake"))
                with trio.fail_after(60):
                    assert await workers.run(pid_of, None, lane="direct") != os.getpid()
                    assert await workers.run(pid_of, None, lane="output") != os.getpid()
                scope.cancel()
        with trio.fail_after(60):
            assert await workers.run(pid_of, None, lane="intake") != os.getpid()

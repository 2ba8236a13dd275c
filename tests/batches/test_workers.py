"""Worker processes: apart from the loop, deaf to the group's signals, gone when told."""

from __future__ import annotations

import os
import signal
import time

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
        first = await workers.run(pid_of, None)
        os.kill(first, signal.SIGTERM)
        second = await workers.run(pid_of, None)

        assert first == second != os.getpid()


async def test_what_a_function_raises_comes_back() -> None:
    """With its text."""
    async with open_workers(1) as workers:
        with pytest.raises(ValueError, match="the reason"):
            await workers.run(fail, "the reason")


async def test_a_direct_request_does_not_wait_for_a_batch_and_a_cancelled_call_ends() -> None:
    """The worker of a cancelled call is killed; the next call has one that works."""
    async with open_workers(1) as workers:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(workers.run, sleep_long, None)

                async def ask_directly() -> None:
                    assert await workers.run(pid_of, None, direct=True) != os.getpid()
                    scope.cancel()

                nursery.start_soon(ask_directly)
        with trio.fail_after(60):
            assert await workers.run(pid_of, None) != os.getpid()

"""Turns: bounded in all and for each account, in rotation, and left without a trace."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from pool.batches.turns import FairTurns


class Crowd:
    """Callers that wait for a turn and keep it until they are told to end."""

    def __init__(self, nursery: trio.Nursery, turns: FairTurns) -> None:
        self.began: list[str] = []
        self.at_work: list[str] = []
        self._nursery = nursery
        self._turns = turns
        self._end: dict[str, trio.Event] = {}
        self._scopes: dict[str, trio.CancelScope] = {}

    async def add(self, *names: str) -> None:
        """Callers ``account`` + number, one after the other."""
        for name in names:
            self._end[name] = trio.Event()
            self._nursery.start_soon(self._call, name)
            await trio.testing.wait_all_tasks_blocked()

    async def end(self, name: str) -> None:
        self._end[name].set()
        await trio.testing.wait_all_tasks_blocked()

    async def give_up(self, name: str) -> None:
        self._scopes[name].cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def _call(self, name: str) -> None:
        with trio.CancelScope() as self._scopes[name]:
            async with self._turns.turn(name[0]):
                self.began.append(name)
                self.at_work.append(name)
                try:
                    await self._end[name].wait()
                finally:
                    self.at_work.remove(name)


async def test_accounts_take_turns_however_much_one_of_them_asks(nursery: trio.Nursery) -> None:
    """Its own stay in their order; those of others come between."""
    crowd = Crowd(nursery, FairTurns(1, 1))
    await crowd.add("a1", "a2", "a3", "a4", "b1", "b2", "c1")

    for name in ("a1", "a2", "b1", "c1", "a3", "b2"):
        assert crowd.at_work == [name]
        await crowd.end(name)

    assert crowd.at_work == ["a4"]


async def test_one_account_never_has_more_than_its_share(nursery: trio.Nursery) -> None:
    """The rest of the slots stay free for others."""
    crowd = Crowd(nursery, FairTurns(4, 2))
    await crowd.add("a1", "a2", "a3", "b1")

    assert crowd.at_work == ["a1", "a2", "b1"]
    await crowd.end("b1")
    assert crowd.at_work == ["a1", "a2"]
    await crowd.end("a1")
    assert crowd.at_work == ["a2", "a3"]


async def test_who_gives_up_leaves_the_others_their_turn(nursery: trio.Nursery) -> None:
    """While it waits, and while it has one."""
    crowd = Crowd(nursery, FairTurns(1, 1))
    await crowd.add("a1", "b1", "c1")
    await crowd.give_up("b1")
    await crowd.give_up("a1")

    assert crowd.began == ["a1", "c1"]
    await crowd.end("c1")
    await crowd.add("a2")
    assert crowd.at_work == ["a2"]


async def test_a_turn_that_fails_is_given_back() -> None:
    """The next caller has it."""
    turns = FairTurns(1, 1)
    with pytest.raises(ValueError, match="broken"):
        async with turns.turn("a"):
            raise ValueError("broken")

    with trio.fail_after(1):
        async with turns.turn("a"):
            pass

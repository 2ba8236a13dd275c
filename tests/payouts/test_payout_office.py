"""The payout office in a running pool."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import trio
from far_side import miner, states_of

from pool.clock import Clock
from pool.config import PayoutsConfig, PolicyConfig
from pool.payouts.office import Office, PayoutError, PayoutRunner
from pool.store import Store


class SlowOffice:
    """A hundred payouts, of which the far side takes one at a time."""

    def __init__(self) -> None:
        self.done = 0
        self.began = threading.Event()

    def work(self, _at: float, pause: Callable[[], None]) -> None:
        for _ in range(100):
            pause()
            self.done += 1
            self.began.set()
            threading.Event().wait(0.01)


async def test_a_pool_that_stops_waits_for_one_payout_only() -> None:
    office = SlowOffice()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(PayoutRunner(cast(Office, office), Clock(0.0)).run)
        await trio.to_thread.run_sync(office.began.wait)
        nursery.cancel_scope.cancel()
    assert office.done < 100


def test_rounds_close_by_the_clock_and_one_that_was_left_open_is_ended(
    store: Store, tmp_path: Path
) -> None:
    config = PayoutsConfig(carrier="json", minimum=1, every_seconds=100.0)
    office = Office(store, config, tmp_path)
    office.work(10.0)
    miner(store, "alice", 50)
    office.work(109.0)
    assert states_of(store) == {}
    office.work(110.0)
    assert states_of(store) == {"alice": "submitted"}


def test_a_secret_is_as_it_was_written_but_for_the_end_of_its_line(
    store: Store, tmp_path: Path
) -> None:
    config = PayoutsConfig(carrier="http", url="https://x", secret_file="secret")
    (tmp_path / "secret").write_bytes(b"short\n")
    with pytest.raises(PayoutError, match="5 bytes: write 16 or more"):
        Office(store, config, tmp_path)
    (tmp_path / "secret").write_bytes(b" sixteen bytes or so \r\n")
    assert Office(store, config, tmp_path).carrier is not None


def test_a_policy_that_is_not_installed_keeps_the_pool_from_starting(
    store: Store, tmp_path: Path
) -> None:
    """Rather than that it pays whom it must not."""
    config = PayoutsConfig(carrier="csv", policies=(PolicyConfig(name="sanctions"),))
    with pytest.raises(PayoutError, match="no policy 'sanctions'"):
        Office(store, config, tmp_path)

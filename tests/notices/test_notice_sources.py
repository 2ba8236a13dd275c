"""Where notices come from: each thing once, whatever happens in between."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from sqlalchemy import insert, select, update

from pool.core import Core
from pool.ledgerwatch import LedgerWatch
from pool.notices.sources import Sources
from pool.store import Store, schema
from pool.store.jobs import add_job
from pool.store.notices import EVENTS, OPERATOR, Wish, set_wish
from shares.board.effects import ShareJudged


class House:
    """What sources look at."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.at = 1_000.0
        self.clock = SimpleNamespace(now=lambda: self.at)
        self.rigs: list[tuple[str, str]] = []
        self.board = SimpleNamespace(
            session_numbers=lambda: list(self._sessions()),
            session=lambda number: self._sessions()[number],
            trust=lambda account, rig: (account, rig),
        )
        self.watch = SimpleNamespace(violations=0)
        self.sources = self.new_sources()
        with store.database.write() as connection:
            for account, role in (("alice", "miner"), ("carol", "customer")):
                set_wish(connection, Wish(account, events=EVENTS[role]), 1.0)

    def new_sources(self) -> Sources:
        return Sources(cast(Core, self), cast(LedgerWatch, self.watch), 300.0)

    def _sessions(self) -> dict[int, Any]:
        return {
            number: SimpleNamespace(account=account, rig=rig)
            for number, (account, rig) in enumerate(self.rigs)
        }

    async def in_thread(self, function: Any, *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(function, *arguments)

    async def after(self, seconds: float) -> list[tuple[str, str, dict[str, Any]]]:
        """Look after so long; what was noted, which is forgotten then."""
        self.at += seconds
        await self.sources.look()
        table = schema.notice
        with self.store.database.write() as connection:
            rows = connection.execute(select(table).order_by(table.c.id)).all()
            connection.execute(table.delete())
        return [(row.account, row.kind, row.facts) for row in rows]


@pytest.fixture
def house(store: Store) -> House:
    return House(store)


def lease(house: House, number: int, rig: str, state: str = "done") -> None:
    facts: dict[str, Any] = {column.name: 0 for column in schema.lease.c if not column.nullable}
    facts |= {"id": number, "account": "alice", "rig": rig, "state": state, "verdict": "open"}
    facts |= {"model": "m", "operation": "embed", "segments": b"\x90", "fault": "none"}
    with house.store.database.write() as connection:
        connection.execute(insert(schema.lease).values(**facts))


async def test_a_rig_that_stays_away_is_told_of_once_until_it_is_back(house: House) -> None:
    house.rigs = [("alice", "rig1"), ("alice", "rig2")]
    assert await house.after(10) == []
    house.rigs = [("alice", "rig2")]
    assert await house.after(299) == []
    ((account, kind, facts),) = await house.after(1)
    assert (account, kind, facts) == (
        "alice",
        "rig_offline",
        {"rig": "alice.rig1", "seconds": 300},
    )
    assert await house.after(10_000) == []
    house.rigs = [("alice", "rig1"), ("alice", "rig2")]
    assert await house.after(1) == []
    house.rigs = []
    assert len(await house.after(400)) == 2


async def test_a_restart_makes_no_storm_and_forgets_no_rig_at_work(house: House) -> None:
    lease(house, 1, "rig1", state="open")
    lease(house, 2, "rig2", state="done")
    house.sources = house.new_sources()
    await house.sources.recover()
    assert await house.after(299) == []
    assert [facts["rig"] for _, _, facts in await house.after(2)] == ["alice.rig1"]


async def test_rejections_are_collected_with_their_reasons(house: House) -> None:
    for number in range(1, 14):
        lease(house, number, "rig1")
    house.sources.committed(
        [
            ShareJudged(n, "rejected", "offence" if n > 10 else "wrong_row", False, 1.0)
            for n in range(1, 14)
        ]
    )
    house.sources.committed([ShareJudged(1, "cleared", "sampled", False, 1.0)])
    ((account, kind, facts),) = await house.after(1)
    assert (account, kind) == ("alice", "rejections")
    assert facts["shares"] == 13
    assert facts["reasons"] == {"wrong_row": 10, "offence": 3}
    assert facts["leases"] == list(range(1, 11))
    assert await house.after(1) == []


@pytest.mark.parametrize("state", ["completed", "failed", "expired", "cancelled"])
async def test_the_end_of_a_batch_is_told_once_however_often_the_pool_starts(
    house: House, state: str
) -> None:
    def job(batch: str | None, state: str) -> None:
        with house.store.database.write() as connection:
            add_job(
                connection,
                account="carol",
                direct=batch is None,
                batch=batch,
                endpoint="/v1/digests",
                state=state,
                created=1.0,
            )

    job("batch_1", state)
    job("batch_2", "in_progress")
    job(None, "completed")
    told = [("carol", "batch_done", {"batch": "batch_1", "status": state})]
    assert await house.after(1) == told
    house.sources = house.new_sources()
    await house.sources.recover()
    assert await house.after(1) == []


async def test_payouts_are_told_when_they_are_over_and_the_operator_when_one_waits(
    house: House,
) -> None:
    table = schema.payout

    def step(state: str) -> None:
        with house.store.database.write() as connection:
            connection.execute(update(table).where(table.c.id == 1).values(state=state))

    with house.store.database.write() as connection:
        connection.execute(insert(schema.payout_round).values(id=1, opened=1.0))
        row = {"id": 1, "key": "k", "round": 1, "account": "alice", "units": 500}
        more = {"kind": "text", "address": "a", "created": 1.0, "changed": 1.0}
        connection.execute(insert(table).values(state="submitting", **row, **more))
    assert await house.after(1) == []
    step("manual")
    facts = {"payout": 1, "units": 500}
    assert await house.after(1) == [(OPERATOR, "payout_waits", facts | {"state": "manual"})]
    assert await house.after(1) == []
    step("finalised")
    assert await house.after(1) == [("alice", "payout", facts | {"state": "finalised"})]
    assert await house.after(1) == []


async def test_the_operator_hears_at_once_of_a_ledger_that_is_not_right(house: House) -> None:
    house.watch.violations = 1
    assert await house.after(1) == [(OPERATOR, "ledger", {})]
    assert await house.after(1) == []

"""`kill -9` of a pool that pays: every miner is paid once, whatever it was doing."""

from __future__ import annotations

import csv
import io
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from harness import SETTINGS, Pool, Process, inferpool, run
from sqlalchemy import update

from pool.store import schema
from pool.store.ledger import balances, post
from pool.store.ledgeraudit import check_ledger
from pool.store.payees import set_payout_address
from pool.store.payouts import STATES, list_payouts

PAYS = '[payouts]\ncarrier = "csv"\nminimum = 1\nevery_seconds = 3600.0\n'
MINERS = {"alice": 700, "bob": 11}
# In the order in which a round passes them: opened, two reserved, closed, handed over, noted.
POINTS = [f"payout.{name}:{n}" for name in ("before_commit", "committed") for n in range(1, 7)]


@pytest.mark.slow
@pytest.mark.long  # tests/payouts has the same without processes
@pytest.mark.parametrize("point", [*POINTS, "payout.handed_over"])
def test_a_pool_killed_while_it_pays_pays_everybody_once(tmp_path: Path, point: str) -> None:
    pool = Pool(tmp_path, SETTINGS + PAYS)
    with pool.store() as store:
        for name, units in MINERS.items():
            pool.account(name, "miner")
            set_payout_address(
                store.database, name, "text", f"IBAN {name}", time.time(), hold_seconds=60.0
            )
            entries = (("external", -units), (f"available:{name}", units))
            with store.database.write() as connection:
                post(connection, "earned", name, entries, time.time())
    process = pool.start(crash_at=point)
    assert process.wait() == -signal.SIGKILL, process.log()
    with pool.store() as store, store.database.write() as connection:
        # What was under way is looked up after a while: that while is over.
        late = schema.payout.c.state == "submitting"
        connection.execute(update(schema.payout).where(late).values(next_at=0.0))
    pool.start()
    try:
        with pool.store() as store:
            wait_until_submitted(pool)
            documents = [name for name, _ in store.objects.list("payouts")]
            rows = [
                row
                for name in documents
                for row in csv.DictReader(io.StringIO(store.objects.get(name).decode()))
            ]
            paid = Process(
                inferpool("payouts", "paid", "--file", str(confirmed(tmp_path, rows)), *pool.config)
            )
            assert paid.wait() == 0, paid.log()
            token = str(tmp_path / "alice.token")
            shown = run("payout", "--url", pool.url, "--token-file", token, "--json")
            assert shown["address"] == "IBAN alice"
            assert [one["state"] for one in shown["payouts"]] == ["finalised"]
            with store.database.read() as connection:
                check_ledger(connection)
                left = {code: units for code, units in balances(connection).items() if units}
    finally:
        assert pool.process is not None
        assert pool.process.stop() == 0

    assert Counter({row["account"]: int(row["amount"]) for row in rows}) == MINERS
    assert len(rows) == len(MINERS), "each stands in the documents once"
    assert left == {"external": -711, "paid:alice": 700, "paid:bob": 11}


def wait_until_submitted(pool: Pool) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with pool.store() as store, store.database.read() as connection:
            states = [payout.state for payout in list_payouts(connection, STATES, 0, 10)]
            retry = schema.payout.c.state == "retryable"
        if states == ["submitted"] * len(MINERS):
            return
        if "retryable" in states:
            with pool.store() as store, store.database.write() as connection:
                connection.execute(update(schema.payout).where(retry).values(next_at=0.0))
        time.sleep(0.2)
    raise AssertionError(f"payouts are {states}")


def confirmed(folder: Path, rows: list[dict[str, str]]) -> Path:
    """What a treasurer gives back."""
    file = folder / "done.csv"
    lines = [f"{row['key']},wire {number}" for number, row in enumerate(rows)]
    file.write_text("\n".join(["key,reference", *lines]) + "\n")
    return file

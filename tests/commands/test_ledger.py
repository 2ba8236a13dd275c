"""``inferpool ledger verify``, and what a running pool tells of its ledger."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from pool.cli import cli
from pool.ledgerwatch import LedgerWatch
from pool.store import Store, schema
from pool.store.ledger import balance, post


def inferpool(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A pool's folder, and a customer with money."""
    folder = tmp_path / "pool"
    assert inferpool("init", folder).exit_code == 0
    for command in (("create", "carol", "--role", "customer"), ("credit", "carol", 500)):
        assert inferpool("account", *command, "--config", folder).exit_code == 0
    return folder


def altered(folder: Path) -> None:
    store = Store.open(folder)
    with store.database.write() as connection:
        connection.execute(update(schema.entry).where(schema.entry.c.seq == 2).values(ref="other"))
    store.close()


def test_a_ledger_that_is_right_says_so_and_what_to_note(house: Path) -> None:
    done = inferpool("ledger", "verify", "--config", house)
    facts = json.loads(inferpool("ledger", "verify", "--config", house, "--json").stdout)

    assert done.exit_code == 0
    assert "2 entries in 1 transactions: all of it is right" in done.stdout
    assert done.stdout.rstrip().endswith(facts["last"])
    assert facts["ledger"]["customers"] == 500
    again = inferpool("ledger", "verify", "--noted", facts["last"], "--config", house)
    assert again.exit_code == 0
    assert "1 noted entries are there" in again.stdout


def test_what_is_wrong_is_named(house: Path) -> None:
    noted = json.loads(inferpool("ledger", "verify", "--config", house, "--json").stdout)["last"]
    done = inferpool("ledger", "verify", "--noted", f"2:{'0' * 64}", "--config", house)
    assert done.exit_code == 1
    assert "entry 2 is not the one that was noted" in done.stderr
    done = inferpool("ledger", "verify", "--noted", "2:abc", "--config", house)
    assert done.exit_code == 2
    assert "write NUMBER:HASH" in " ".join(done.stderr.split())
    altered(house)
    done = inferpool("ledger", "verify", "--noted", noted, "--config", house)
    assert done.exit_code == 1
    assert "entry 2 or one before it was altered" in done.stderr


def test_a_running_pool_looks_at_what_is_new(house: Path) -> None:
    """And counts what must always be 0."""
    store = Store.open(house)
    core: Any = SimpleNamespace(store=store)
    watch = LedgerWatch(core)
    watch.look()
    assert (watch.violations, watch.entries) == (0, 2)
    with store.database.write() as connection:
        post(connection, "in", "x", (("external", -1), ("reserve", 1)), 1.0)
    watch.look()
    assert (watch.violations, watch.entries) == (0, 4)
    assert (watch.units["reserve"], watch.units["deposited"]) == (
        balance_of(store, "reserve"),
        -balance_of(store, "external"),
    )
    assert watch.payouts["manual"] == (0, 0)
    with store.database.write() as connection:
        post(connection, "in", "y", (("external", -1), ("reserve", 1)), 1.0)
        connection.execute(update(schema.entry).where(schema.entry.c.seq == 6).values(amount=2))
    watch.look()
    assert watch.violations == 1
    store.close()


def balance_of(store: Store, code: str) -> int:
    with store.database.read() as connection:
        return balance(connection, code)

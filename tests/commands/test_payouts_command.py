"""``inferpool payouts``: closing a round, and what a person says of payouts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pool.cli import cli
from pool.store import Store
from pool.store.accounts import create_account
from pool.store.ledger import post
from pool.store.payees import set_payout_address

HOLDS = 'policies = [{name = "cap", settings = {units = 500}}]\n'


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A pool that pays by CSV, with two miners that have 1,000 and 400 units."""
    (tmp_path / "pool.toml").write_text(f'[payouts]\ncarrier = "csv"\nminimum = 1\n{HOLDS}')
    store = Store.open(tmp_path, durable=False)
    for name, units in (("alice", 1_000), ("bob", 400)):
        create_account(store.database, name, "miner", 1.0)
        set_payout_address(store.database, name, "text", "IBAN 1", 2.0, hold_seconds=0.0)
        entries = (("external", -units), (f"available:{name}", units))
        with store.database.write() as connection:
            post(connection, "earned", name, entries, time.time())
    store.close()
    return tmp_path


def run(pool: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["payouts", *words, "--config", str(pool)])


def facts(pool: Path, *words: str) -> object:
    return json.loads(run(pool, *words, "--json").stdout)


def test_a_round_writes_its_document_and_says_where(pool: Path) -> None:
    said = run(pool, "round")
    assert said.exit_code == 0, said.output
    assert "round 1: 2 payouts of 1,400 units" in said.output
    document = pool / "objects" / "payouts" / "1-2.csv"
    assert str(document) in said.output
    assert "bob" in document.read_text()
    assert "alice" not in document.read_text(), "above the cap: a person decides"
    states = {one["account"]: one["state"] for one in facts(pool, "list")}  # type: ignore[index,attr-defined]
    assert states == {"alice": "manual", "bob": "submitted"}
    assert "1000 units within 1 days are above 500" in run(pool, "list", "--state", "manual").output


def test_a_person_decides_by_number(pool: Path) -> None:
    run(pool, "round")
    assert run(pool, "approve", "1").output == "payout 1 of 1,000 units to alice is reserved\n"
    again = run(pool, "approve", "1")
    assert again.exit_code == 1
    assert "payout 1 is reserved: only one that is manual can become reserved" in again.output
    assert run(pool, "paid", "2", "--reference", "wire 7").exit_code == 0
    assert "there is no payout '9'" in run(pool, "return", "9", "--reason", "x").output
    shown = facts(pool)
    assert shown["payouts"]["finalised"] == {"payouts": 1, "units": 400}  # type: ignore[index]
    assert shown["ledger"]["in_flight"] == 1_000  # type: ignore[index]
    assert shown["ledger"]["paid"] == 400  # type: ignore[index]


def test_json_stands_alone_on_standard_output(pool: Path) -> None:
    """Whatever is logged on the way goes elsewhere."""
    command = [sys.executable, "-m", "pool", "payouts", "round", "--json", "--config", str(pool)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (found["payouts"], found["units"], len(found["documents"])) == (2, 1_400, 1)


def test_what_policies_decided_is_in_the_log(pool: Path) -> None:
    run(pool, "round")
    said = CliRunner().invoke(cli, ["account", "log", "--last", "2", "--config", str(pool)]).output
    first, second = said.splitlines()
    assert "policy: payout of 1000 units to alice: hold, cap: 1000 units within 1 days" in first
    assert "policy: payout of 400 units to bob: allow" in second


def test_a_treasurers_file_is_read_as_a_whole_or_named(pool: Path, tmp_path: Path) -> None:
    run(pool, "round")
    (bob,) = (one for one in facts(pool, "list") if one["account"] == "bob")  # type: ignore[index,attr-defined]
    file = tmp_path / "done.csv"
    file.write_text("key;reference\n")
    assert "key and reference" in run(pool, "paid", "--file", str(file)).output
    file.write_text(f"key,reference\n{bob['key']},\n")
    assert "line 2" in run(pool, "paid", "--file", str(file)).output
    file.write_text(f"key,reference\npayout_none,wire 8\n{bob['key']},wire 9\n")
    said = run(pool, "paid", "--file", str(file))
    assert said.exit_code == 1
    assert "there is no payout 'payout_none'" in said.output
    assert "to bob is finalised" in said.output, "one bad line keeps nobody waiting"
    assert "give a PAYOUT" in run(pool, "paid").output


def test_a_round_is_noted_as_paid_as_a_whole(pool: Path) -> None:
    """What waits for a person is not part of it."""
    run(pool, "round")
    assert "give a PAYOUT or --round" in run(pool, "paid", "--round", "1").output
    assert "no payout of round 2" in run(pool, "paid", "--round", "2", "--reference", "0x1").output
    said = run(pool, "paid", "--round", "1", "--reference", "0x1")
    assert said.output == "payout 2 of 400 units to bob is finalised\n"


def test_a_pool_that_pays_nobody_says_so(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text("")
    assert 'payouts.carrier is "none"' in run(tmp_path, "round").output


def test_settings_that_cannot_be_are_named(tmp_path: Path) -> None:
    for text, words in (
        ('carrier = "claims"', 'payouts.address = "evm"'),
        ('carrier = "http"\nurl = "ftp://x"', "payouts.url"),
        ('carrier = "http"\nurl = "https://x"', "payouts.secret_file"),
        ('carrier = "http"\nurl = "https://x"\nsecret_file = "none"', "cannot be read"),
        ('carrier = "csv"\npolicies = [{name = "magic"}]', "no policy 'magic'"),
        ('carrier = "pigeon"', "payouts.carrier"),
    ):
        (tmp_path / "pool.toml").write_text(f"[payouts]\n{text}\n")
        said = run(tmp_path, "round")
        assert said.exit_code == 1
        assert words in said.output, said.output


def test_the_risk_of_pay_per_share_is_shown(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text('[money]\nscheme = "pps"\n')
    assert "exhausted with a probability of at most 1." in run(tmp_path).output
    assert facts(tmp_path)["risk"]["bound"] == 1.0  # type: ignore[index]

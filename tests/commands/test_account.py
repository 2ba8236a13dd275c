"""Accounts and their money, as the operator sees them, on a real pool's folder."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pool.accounts import token_hash
from pool.commands.account import account
from pool.commands.init import init
from pool.commands.payouts import payouts
from pool.store import Store


@pytest.fixture
def folder(tmp_path):
    made = CliRunner().invoke(init, [str(tmp_path / "pool")])
    assert made.exit_code == 0, made.output
    return tmp_path / "pool"


@pytest.fixture
def run(folder):
    def invoke(*arguments, command=account):
        return CliRunner().invoke(command, [*arguments, "--config", str(folder)])

    return invoke


@pytest.fixture
def facts(run):
    def invoke(*arguments, command=account):
        result = run(*arguments, "--json", command=command)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return invoke


def test_the_token_is_shown_once_and_kept_as_a_hash(run, folder):
    """Alone on stdout, so that it can go into a file; the words about it are on stderr."""
    result = run("create", "alice", "--role", "miner")
    token = result.stdout.strip()

    assert result.exit_code == 0
    store = Store.open(folder)
    assert store.account_by_token(token).name == "alice"
    store.close()
    assert token not in run("list").output
    assert not [file for file in folder.rglob("*") if file.is_file() and token.encode() in
                file.read_bytes()]  # fmt: skip


def test_json_has_account_role_and_token(facts, folder):
    """What scripts read."""
    made = facts("create", "carol", "--role", "customer")

    assert set(made) == {"account", "role", "token"}
    assert (made["account"], made["role"]) == ("carol", "customer")
    assert token_hash(made["token"]) != made["token"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "alice", "--role", "miner"], "exists already"),
        (["create", "a.b", "--role", "miner"], "a dot divides"),
        (["create", "reserve", "--role", "miner"], "a meaning of its own"),
        (["create", "bob", "--role", "king"], "king"),
        (["credit", "alice", "5"], "only a customer"),
        (["credit", "nobody", "5"], "no account 'nobody'"),
        (["credit", "reserve", "0"], "at least 1"),
        (["close", "nobody"], "no account 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(run, arguments, said):
    """Nothing is changed by it."""
    run("create", "alice", "--role", "miner")
    before = run("list").stdout
    result = run(*arguments)

    assert result.exit_code != 0
    assert said in result.stderr
    assert run("list").stdout == before


def test_credit_adds_to_a_customer_and_to_the_reserve(facts):
    """Money comes in here and nowhere else."""
    facts("create", "carol", "--role", "customer")
    facts("credit", "carol", "700")

    assert facts("credit", "carol", "300")["balance"] == 1_000
    assert facts("credit", "reserve", "50")["balance"] == 50
    assert facts("list")[0]["balance"] == 1_000
    assert facts(command=payouts)["ledger"] == {
        "deposited": 1_050,
        "customers": 1_000,
        "escrow": 0,
        "pending": 0,
        "held": 0,
        "available": 0,
        "in_flight": 0,
        "paid": 0,
        "pot": 0,
        "operator": 0,
        "reserve": 50,
        "forfeits": 0,
    }


def test_a_closed_account_opens_nothing_and_is_still_listed(facts, folder):
    """Its history stays."""
    token = facts("create", "alice", "--role", "miner")["token"]
    facts("close", "alice")

    store = Store.open(folder)
    assert store.account_by_token(token) is None
    store.close()
    (listed,) = facts("list")
    assert listed["closed"] is not None


def test_closing_twice_is_refused(run):
    """The second operator is told that the first was there."""
    run("create", "alice", "--role", "miner")
    run("close", "alice")
    result = run("close", "alice")

    assert result.exit_code == 1
    assert "is closed" in result.stderr


def test_payouts_show_every_miner_in_words_and_in_json(run, facts):
    """A miner that earned nothing yet is there too; customers are not."""
    facts("create", "alice", "--role", "miner")
    facts("create", "carol", "--role", "customer")
    shown = run(command=payouts)

    assert shown.exit_code == 0
    assert "alice" in shown.stdout
    assert "carol" not in shown.stdout
    assert facts(command=payouts)["miners"] == [
        {
            "account": "alice",
            "pending": 0,
            "held": 0,
            "available": 0,
            "in_flight": 0,
            "paid": 0,
            "closed": False,
        }
    ]


def test_a_folder_without_a_pool_is_named_with_the_remedy(tmp_path):
    """The operator is told which command makes one."""
    result = CliRunner().invoke(account, ["list", "--config", str(tmp_path / "none")])

    assert result.exit_code == 1
    assert "inferpool init" in result.stderr


def test_a_payout_address_is_set_and_shown(run):
    run("create", "alice", "--role", "miner")
    assert "no payout address" in run("payout-address", "alice").output
    assert run("payout-address", "alice", "0xabc").output.strip() == "0xabc"
    shown = json.loads(run("payout-address", "alice", "--json").stdout)
    assert (shown["payout_address"], shown["kind"]) == ("0xabc", "text")
    changed = run("payout-address", "alice", "0xdef").output
    assert changed.startswith("0xdef  (used from 20")
    refused = run("payout-address", "alice", "two\nlines")
    assert refused.exit_code == 1
    assert "in one line" in refused.output
    assert "account list" in run("payout-address", "nobody").output


def test_a_payout_token_and_an_attestation_are_given_by_the_operator(run):
    run("create", "alice", "--role", "miner")
    assert run("payout-token", "alice").stdout.startswith("ipp_")
    assert "no account" in run("payout-token", "nobody").output
    said = run("attest", "alice", "--reference", "case 17", "--hash", "ab" * 32)
    assert said.output == "alice is attested: case 17\n"
    assert "64 hex digits" in run("attest", "alice", "--reference", "x", "--hash", "no").output

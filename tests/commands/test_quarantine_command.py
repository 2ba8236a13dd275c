"""``inferpool quarantine`` on a pool's folder, and the pool that it reaches."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from pool.commands.init import init
from pool.commands.quarantine import quarantine_command
from pool.models import Models
from pool.store import Store, schema
from pool.store.quarantines import quarantined_kinds


@pytest.fixture
def folder(tmp_path):
    made = CliRunner().invoke(init, [str(tmp_path / "pool")])
    assert made.exit_code == 0, made.output
    return tmp_path / "pool"


@pytest.fixture
def run(folder):
    def invoke(*arguments):
        return CliRunner().invoke(quarantine_command, [*arguments, "--config", str(folder)])

    return invoke


@pytest.fixture
def digest(folder):
    """Of the built-in model."""
    with_model = Store.open(folder)
    models = Models(with_model, builtin=True)
    found = next(model for model in models.list() if model.name == "blake2b")
    with_model.close()
    return found.digest


def kinds_in(folder):
    store = Store.open(folder)
    with store.database.read() as connection:
        found = quarantined_kinds(connection)
    store.close()
    return found


def test_what_is_added_is_listed_until_it_is_lifted(run, folder, digest):
    """And it is in the store, by the model's digest, for the pool to read."""
    added = run("add", "NVIDIA Bad", "blake2b", "--why", "driver 580")
    assert added.exit_code == 0, added.output
    (listed,) = json.loads(run("list", "--json").stdout)["kinds"]
    assert (listed["kind"], listed["model"]) == ("NVIDIA Bad", "blake2b")
    assert listed["why"] == "driver 580"
    assert "driver 580" in run("list").output
    assert kinds_in(folder) == {(digest, "NVIDIA Bad")}

    assert run("lift", "NVIDIA Bad", "blake2b").exit_code == 0
    assert json.loads(run("list", "--json").stdout) == {"kinds": [], "excused": []}
    assert kinds_in(folder) == frozenset()


def test_unknown_names_are_refused_with_a_remedy(run, digest):
    """A quarantine of a mistyped model would keep nobody from anything."""
    added = run("add", "NVIDIA Bad", "blake3b")
    lifted = run("lift", "NVIDIA Bad", "blake2b")

    assert added.exit_code == lifted.exit_code == 1
    assert "inferpool model list" in added.output
    assert "inferpool quarantine list" in lifted.output


@pytest.fixture
def excused(folder, digest):
    """A share whose wrong rows were put down to a kind that is not in quarantine."""
    store = Store.open(folder)
    row = {"lease": 7, "account": "anna", "rig": "one", "model": digest, "kind": "NVIDIA Bad"}
    with store.database.write() as connection:
        connection.execute(schema.excuse.insert(), [row | {"rows": 3, "price": 1, "at": 1e9}])
    store.close()


def decisions_in(folder):
    store = Store.open(folder)
    with store.database.read() as connection:
        found = connection.scalars(sa.select(schema.excuse.c.decision)).all()
    store.close()
    return list(found)


def test_who_is_excused_is_listed_until_the_operator_decides(run, folder, excused):
    (listed,) = json.loads(run("list", "--json").stdout)["excused"]
    assert (listed["lease"], listed["account"], listed["rig"]) == (7, "anna", "one")
    assert (listed["kind"], listed["model"], listed["rows"]) == ("NVIDIA Bad", "blake2b", 3)
    assert "anna.one" in run("list").output
    assert decisions_in(folder) == [None]


@pytest.mark.parametrize(("option", "word"), [((), "innocent"), (("--guilty",), "guilty")])
def test_a_lift_decides_on_the_excused_once(run, folder, excused, option, word):
    lifted = run("lift", "NVIDIA Bad", "blake2b", *option)

    assert lifted.exit_code == 0, lifted.output
    assert f"{word}: 1 excused shares" in lifted.output
    assert decisions_in(folder) == [word]
    assert run("lift", "NVIDIA Bad", "blake2b", "--guilty").exit_code == 1
    assert decisions_in(folder) == [word]


def test_a_bundle_is_of_an_excused_share_only(run, excused):
    refused = run("bundle", "8")

    assert refused.exit_code == 1
    assert "inferpool quarantine list" in refused.output

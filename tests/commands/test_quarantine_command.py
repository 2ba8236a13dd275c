"""``inferpool quarantine`` on a pool's folder, and the pool that it reaches."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pool.commands.init import init
from pool.commands.quarantine import quarantine_command
from pool.models import Models
from pool.store import Store
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
    (listed,) = json.loads(run("list", "--json").stdout)
    assert (listed["kind"], listed["model"]) == ("NVIDIA Bad", "blake2b")
    assert listed["why"] == "driver 580"
    assert "driver 580" in run("list").output
    assert kinds_in(folder) == {(digest, "NVIDIA Bad")}

    assert run("lift", "NVIDIA Bad", "blake2b").exit_code == 0
    assert json.loads(run("list", "--json").stdout) == []
    assert kinds_in(folder) == frozenset()


def test_unknown_names_are_refused_with_a_remedy(run, digest):
    """A quarantine of a mistyped model would keep nobody from anything."""
    added = run("add", "NVIDIA Bad", "blake3b")
    lifted = run("lift", "NVIDIA Bad", "blake2b")

    assert added.exit_code == lifted.exit_code == 1
    assert "inferpool model list" in added.output
    assert "inferpool quarantine list" in lifted.output

"""The pool's draws, as a miner audits them from what the pool publishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from world import World, settings, simulate

from pool.cli import cli
from pool.http.epochs import epochs_json
from pool.http.receipts import part_json
from pool.store.parts import PUBLISHED_AFTER_SECONDS, last_published, parts_after
from pool.store.receipts import receipts_after
from shares.receipts import Receipt
from shares.trust.audit import Audit, audit, epochs_from_json, parts_from_json

_Told = dict[str, list[dict[str, Any]]]  # {account: its parts}


class Published:
    """What the pool tells when all is over."""

    parts: _Told
    secret: _Told  # while the keys are
    epochs: list[dict[str, Any]]
    receipts: dict[str, list[Receipt]]

    def tell(self, world: World) -> None:
        """Let the epoch end in which everything happened."""
        assert world.pool is not None
        now = world.epoch + world.now
        names = sorted({rig.account for rig in world.rigs.values()})
        with world.store.database.read() as connection:
            self.secret = _told(connection, names, now - 10**6)
        world.pool.epochs.current(now + 3_600)
        later = now + 3_600 + PUBLISHED_AFTER_SECONDS
        with world.store.database.read() as connection:
            assert last_published(connection, later - 1) < last_published(connection, later)
            self.parts = _told(connection, names, later)
            self.epochs = json.loads(json.dumps(epochs_json(connection, 0, 1000, later)))
            self.receipts = {name: receipts_after(connection, name, 0, 10**6)[0] for name in names}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Two jobs, one with assurance; honest rigs, a liar, a crash of the pool, several epochs."""
    told = Published()

    async def history(world: World) -> None:
        world.check_invariants = False  # the board's own tests look at them
        world.customer("carol")
        world.add_rigs(6, 5.0, 40.0)
        world.add_rig("liar", "rig", 20.0, falsehood=0.01)
        await world.start_rigs()
        jobs = [await world.open_job("carol", 6_000)]
        jobs.append(await world.open_job("carol", 6_000, assurance="0.99/0.01"))
        await world.sleep_until(70)
        assert await world.die_at_commit(1, unless=jobs[1].over)
        await world.start_pool()
        for job in jobs:
            await job.over.wait()
        await world.settle()
        told.tell(world)

    several_epochs = settings(trust={"epoch_seconds": 60.0})
    simulate(5, tmp_path_factory.mktemp("world"), history, config=several_epochs)
    return told


def _told(connection: sa.Connection, names: list[str], now: float) -> _Told:
    parts = {name: parts_after(connection, name, 0, 10**6, now)[0] for name in names}
    return {
        name: json.loads(json.dumps([part_json(one) for one in found]))
        for name, found in parts.items()
    }


def audited(published: Published, account: str) -> Audit:
    return audit(
        parts_from_json(published.parts[account]),
        epochs_from_json(published.epochs),
        published.receipts[account],
    )


def test_every_draw_follows_from_what_is_published(published: Published) -> None:
    """Honest rigs and the liar alike; nothing is left secret."""
    total = drawn = others = 0
    reasons: set[str] = set()
    for account in published.parts:
        found = audited(published, account)
        assert not found.failures, (account, found.failures[:3])
        assert found.parts == len(published.parts[account]) > 0
        assert not found.secret
        total += found.rows
        drawn += found.drawn
        others += found.others
        reasons |= set(found.reasons)
    assert total >= 12_000
    assert 0 < drawn < total / 2
    assert {"held", "probation"} <= reasons
    assert others, "nobody was checked for having been wrong elsewhere"


def test_draws_are_secret_until_their_key_is_published(published: Published) -> None:
    """And so is which rows count."""
    for parts in published.secret.values():
        assert all(part["draw"] is None for part in parts)
        found = audit(parts_from_json(parts), epochs_from_json(_hidden(published.epochs)))
        assert (found.secret, found.failures) == (len(parts), [])


def _hidden(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [epoch | {"key": None} for epoch in epochs]


def _first(parts: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], object]) -> Any:
    return next(part for part in parts if wanted(part))


def _spare(told: dict[str, Any]) -> None:
    part = _first(told["parts"], lambda p: p["draw"]["check_rows"] and p["why"] == "held")
    gone = part["draw"]["check_rows"].pop()
    part["draw"]["checks"] = [c for c in part["draw"]["checks"] if c["row"] != gone]


def _pick(told: dict[str, Any]) -> None:
    part = _first(told["parts"], lambda p: p["why"] == "held" and not p["suspect"])
    rows = {c["row"] for c in part["draw"]["checks"]}
    row = next(n for n in range(part["rows"]) if n not in rows)
    part["draw"]["check_rows"].append(row)
    part["draw"]["checks"].append({"row": row, "by": "rig", "outcome": "matched"})


def _unbought(told: dict[str, Any]) -> None:
    part = _first(told["parts"], lambda p: p["draw"]["least"] and p["draw"]["check_rows"])
    part["draw"]["least"] = []


def _unasked(told: dict[str, Any]) -> None:
    part = _first(told["parts"], lambda p: p["why"] == "held" and not p["suspect"])
    rows = {c["row"] for c in part["draw"]["checks"]}
    row = next(n for n in range(part["rows"]) if n not in rows)
    part["draw"]["checks"].append({"row": row, "by": "rig", "outcome": "matched"})


def _forgotten(told: dict[str, Any]) -> None:
    part = _first(told["parts"], lambda p: p["draw"]["checks"])
    part["draw"]["checks"].pop()


def _harder(told: dict[str, Any]) -> None:
    part = _first(told["parts"], lambda p: p["why"] == "held")
    part["check_rate_ppm"] += 1


def _poorer(told: dict[str, Any]) -> None:
    part = _first(told["parts"], lambda p: p["why"] == "held" and p["check_rate_ppm"] > 10_000)
    part["held"] //= 2


def _other_key(told: dict[str, Any]) -> None:
    told["epochs"][-1]["key"] = "00" * 32


def _other_promise(told: dict[str, Any]) -> None:
    told["epochs"][-1]["anchor"] = "00" * 32


def _other_digest(told: dict[str, Any]) -> None:
    told["parts"][0]["digest"] = "00" * 32


def _untold(told: dict[str, Any]) -> None:
    told["parts"].pop()


def _lenient(told: dict[str, Any]) -> None:
    part = _first(told["parts"], lambda p: p["draw"]["checks"] and p["verdict"] == "cleared")
    part["draw"]["checks"][0]["outcome"] = "guilty"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_spare, "had to be drawn and were not"),
        (_pick, "were drawn and had not to be"),
        (_unbought, "were drawn and had not to be"),
        (_unasked, "were checked and not drawn"),
        (_forgotten, "were drawn and not checked"),
        (_harder, "follows from its hold"),
        (_poorer, "follows from its hold"),
        (_other_key, "not the one that was promised"),
        (_other_promise, "does not belong to chain"),
        (_other_digest, "differ from its receipt"),
        (_untold, "has a receipt and is not told"),
        (_lenient, "ended as guilty"),
    ],
)
def test_any_change_is_found(
    published: Published, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    """A row spared, picked or forgotten, a rate, a hold, a key, a digest."""
    told = {"parts": deepcopy(published.parts["m03"]), "epochs": deepcopy(published.epochs)}
    change(told)
    found = audit(
        parts_from_json(told["parts"]),
        epochs_from_json(told["epochs"]),
        published.receipts["m03"],
    )
    assert any(words in failure for failure in found.failures), found.failures


def test_a_promise_that_was_noted_is_held_against_the_pool(published: Published) -> None:
    """A pool that makes up new keys, hashes and anchors is found by what somebody saw before."""
    found = audit([], epochs_from_json(published.epochs), (), {1: "ab" * 32})
    assert found.failures == ["epoch 1: its key_hash is not the one that was noted"]


def test_the_command_says_what_was_checked_and_what_differs(
    published: Published, tmp_path: Path
) -> None:
    """Pages in files, one after the other; status 1 when anything differs."""
    parts = published.parts["m03"]
    pages = "".join(json.dumps({"data": half}) + "\n" for half in (parts[:3], parts[3:]))
    (tmp_path / "parts.json").write_text(pages)
    (tmp_path / "epochs.json").write_text(json.dumps({"data": published.epochs}))
    words = ["audit", str(tmp_path / "parts.json"), "--epochs", str(tmp_path / "epochs.json")]
    words += ["--noted", str(tmp_path / "epochs.json")]
    good = CliRunner().invoke(cli, words)
    assert good.exit_code == 0, good.output
    assert "had to be checked" in good.output
    told = {"parts": deepcopy(parts), "epochs": published.epochs}
    _spare(told)
    (tmp_path / "parts.json").write_text(json.dumps({"data": told["parts"]}))
    bad = CliRunner().invoke(cli, words)
    assert bad.exit_code == 1
    assert "FAILED  lease" in bad.output
    (tmp_path / "parts.json").write_text(json.dumps({"data": [{"lease": 1}]}))
    odd = CliRunner().invoke(cli, words)
    assert odd.exit_code == 1
    assert "missing required field" in odd.output

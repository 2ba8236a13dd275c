"""The commands as their three users type them: operator, miner and customer, on one machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def inferpool(*arguments):
    return [sys.executable, "-m", "pool", *map(str, arguments)]


def run(*arguments):
    return subprocess.run(inferpool(*arguments), capture_output=True, text=True, check=False)


def facts(*arguments):
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def running(*arguments):
    """A command that goes on; yields a function that waits for an event in its log."""
    process = subprocess.Popen(
        inferpool(*arguments), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )

    def event(name):
        for line in process.stderr:
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if found.get("event") == name:
                    return found
        raise AssertionError(f"{arguments[0]} ended without {name!r}")

    try:
        yield event
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def house(tmp_path):
    """A pool's folder, with a miner's and a customer's token in files."""
    folder = tmp_path / "pool"
    facts("init", folder)
    with (folder / "pool.toml").open("r+") as file:
        text = file.read().replace("clearing_seconds = 10.0", "clearing_seconds = 0.2")
        file.seek(0)
        file.write(text)
        file.truncate()
    for name, role in (("alice", "miner"), ("carol", "customer")):
        made = facts("account", "create", name, "--role", role, "--config", folder)
        (tmp_path / name).write_text(made["token"])
        (tmp_path / name).chmod(0o600)
    facts("account", "credit", "carol", 1_000, "--config", folder)
    return tmp_path


def test_a_batch_goes_through_the_house_by_commands_alone(house):
    """Submitted, computed, fetched, paid; the status and the payouts tell of it."""
    lines = [json.dumps({"input": [number, number + 1]}) for number in range(40)]
    (house / "ids.jsonl").write_text("\n".join([*lines, '{"custom_id": "bad", "input": "text"}']))
    serve = running("serve", "--config", house / "pool",
                    "--stratum", "127.0.0.1:0", "--http", "127.0.0.1:0")  # fmt: skip
    with serve as event:
        listening = event("listening")
        url = f"http://{listening['http']}"
        rig = running("worker", "--pool", f"stratum+tcp://{listening['stratum']}",
                      "--user", "alice.rig1", "--token-file", house / "alice",
                      "--cache", house / "cache", "--threads", 1)  # fmt: skip
        with rig as rig_event:
            rig_event("connected")
            done = facts("submit", house / "ids.jsonl", "--model", "blake2b", "--url", url,
                         "--key-file", house / "carol", "--endpoint", "/v1/digests",
                         "--wait", "--output", house / "out.jsonl")  # fmt: skip
            shown = facts("status", "--url", url)

        counts = done["batch"]["request_counts"]
        assert counts == {"total": 41, "completed": 40, "failed": 1}
        answers = [json.loads(line) for line in (house / "out.jsonl").read_text().splitlines()]
        assert [a["custom_id"] for a in answers] == [f"line-{n}" for n in range(1, 41)]
        (refused,) = (house / "out.errors.jsonl").read_text().splitlines()
        assert json.loads(refused)["custom_id"] == "bad"
        assert [rig["account"] for rig in shown["rigs"]] == ["alice"]

        deadline = time.monotonic() + 30
        while True:
            paid = facts("payouts", "--config", house / "pool")
            (alice,) = paid["miners"]
            if alice["held"] == 40 and paid["ledger"]["escrow"] == 0:
                break
            assert time.monotonic() < deadline, paid
        assert sum(paid["ledger"].values()) == 2 * paid["ledger"]["deposited"]


def test_a_customer_without_money_is_told_so(house):
    """The batch fails, with the code that says why, and the exit code is 1."""
    (house / "ids.jsonl").write_text('{"input": [1, 2]}\n' * 2_000)
    serve = running("serve", "--config", house / "pool",
                    "--stratum", "127.0.0.1:0", "--http", "127.0.0.1:0")  # fmt: skip
    with serve as event:
        url = f"http://{event('listening')['http']}"
        done = run("submit", house / "ids.jsonl", "--model", "blake2b", "--url", url,
                   "--key-file", house / "carol", "--endpoint", "/v1/digests",
                   "--wait")  # fmt: skip

    assert done.returncode == 1
    assert "insufficient_quota" in done.stderr

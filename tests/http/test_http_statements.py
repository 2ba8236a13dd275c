"""Statements over HTTP, and by the command that shows them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from customer_side import Served, client_of, digest_line, jsonl, make_batch, until_over

from pool.cli import cli
from pool.store import Group, commit_group
from shares.board.effects import CreditEarned, ShareJudged

STATEMENT = "/api/v1/accounts/me/statement"


@pytest.fixture
async def worked(served: Served) -> Served:
    """A customer's batch was computed and paid for."""
    async with client_of(served) as client:
        data = jsonl([digest_line(number, [number + 1, 2, 3]) for number in range(30)])
        batch = await make_batch(client, data, "/v1/digests")
        await until_over(client, batch)
    return served


async def test_a_customer_sees_what_it_spent(worked: Served) -> None:
    async with client_of(worked) as client:
        found = (await client.get(STATEMENT)).json()
        me = (await client.get("/api/v1/accounts/me")).json()
        as_csv = await client.get(STATEMENT, params={"format": "csv"})
    assert [line["kind"] for line in found["data"]][:2] == ["deposit", "reserved"]
    assert found["data"][1]["batch"].startswith("batch_")
    assert found["data"][-1]["balance"] == me["balance"]
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert [row["units"] for row in rows] == [str(line["units"]) for line in found["data"]]


async def test_a_miner_sees_what_it_earned(worked: Served) -> None:
    earned_now = CreditEarned(1, 0, 1, "row", "pay", "miner", "rig", 30, 30)
    judged = ShareJudged(1, "cleared", "test", False, worked.clock.now())
    await trio.to_thread.run_sync(commit_group, worked.store, Group([earned_now, judged], {}))
    async with client_of(worked, worked.miner_key) as client:
        found = (await client.get(STATEMENT)).json()
        earned = (await client.get("/api/v1/accounts/me/credits")).json()["data"]
    sums: dict[str, int] = {}
    for one in earned:
        sums[one["state"]] = sums.get(one["state"], 0) + one["amount"]
    assert {state: found["totals"][state] for state in sums} == sums
    assert sums
    assert (found["role"], found["totals"]["work"]) == ("miner", 30)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"from": "2026-11-30", "to": "2026-11-30"}, "from"),
        ({"from": "2020-01-01", "to": "2026-11-30"}, "from"),
        ({"from": "9999-12-31"}, "from"),
        ({"from": "20261130"}, "from"),
        ({"format": "pdf"}, "format"),
    ],
)
async def test_what_cannot_be_read_is_named(
    served: Served, query: dict[str, str], param: str
) -> None:
    async with client_of(served) as client:
        answer = await client.get(STATEMENT, params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_the_command_shows_the_same(worked: Served, tmp_path: Path) -> None:
    """As a table, as CSV and as JSON; what the pool refuses is said in its words."""
    for name, key in (("carol", worked.key), ("miner", worked.miner_key), ("none", "ip_none")):
        (tmp_path / name).write_text(key + "\n")

    async def run(name: str, *words: str) -> tuple[int, str]:
        arguments = ["statement", "--url", worked.url, "--token-file", str(tmp_path / name)]
        result = await trio.to_thread.run_sync(
            lambda: CliRunner().invoke(cli, [*arguments, *words])
        )
        return result.exit_code, result.output

    code, shown = await run("carol")
    assert code == 0, shown
    assert "reserved" in shown
    assert "BALANCE" in shown
    code, shown = await run("miner")
    assert code == 0, shown
    assert "FEE ON TOP" in shown
    assert "not yet posted" in shown
    code, shown = await run("carol", "--csv")
    assert "\nat,kind,job,batch," in "\n" + shown
    code, shown = await run("carol", "--csv", "--from", "2020-01-01", "--to", "2020-01-02")
    assert "\nat,kind,job,batch,work,work_done,units,balance\n" in "\n" + shown, "no days, one head"
    code, shown = await run("carol", "--from", "2026-02-30")
    assert code == 1
    assert "from: must be a day, such as 2026-11-30 (400)" in shown
    code, shown = await run("none")
    assert code == 1
    assert "opens no account" in shown

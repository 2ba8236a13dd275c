"""Assurance of a batch: asked for, shown with its price before it is charged, and bought."""

from __future__ import annotations

import pytest
import trio
from customer_side import (
    CONFIG,
    client_of,
    embed_line,
    jsonl,
    make_batch,
    open_customer_side,
    until_over,
    upload,
)
from msgspec.structs import replace
from sqlalchemy import select

from pool.config import TrustConfig
from pool.store import schema

LINES = jsonl([embed_line(number, f"w{4 + number % 30} w5") for number in range(20)])


async def _quote(client, data: bytes = LINES, **more: object):
    body = {"input_file_id": await upload(client, data), "endpoint": "/v1/embeddings"}
    return await client.post("/api/v1/quotes", json=body | more)


async def _batch(client, assurance: str):
    body = {
        "input_file_id": await upload(client, LINES),
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
        "metadata": {"assurance": assurance, "mine": "x"},
    }
    return await client.post("/v1/batches", json=body)


async def test_a_quote_names_every_part_of_the_price(tmp_path):
    async with open_customer_side(tmp_path) as side, client_of(side) as client:
        plain = (await _quote(client)).json()
        full = (await _quote(client, metadata={"assurance": "full"})).json()
        claim = (await _quote(client, metadata={"assurance": "0.999/0.001"})).json()

        assert (plain["rows"], plain["requests"]) == (20, {"total": 20, "refused": 0})
        assert plain["pay"] == plain["work"] * plain["unit_price"]
        assert plain["check"] == -(-plain["pay"] * 30_000 // 1_000_000)
        assert plain["fee"] == -(-plain["pay"] * 20_000 // 1_000_000)
        assert plain["total"] == plain["pay"] + plain["check"] + plain["fee"]
        assert (plain["assurance"], plain["assurance_ppm"]) == (None, 0)
        assert (full["assurance"], full["assurance_ppm"]) == ("full", 1_000_000)
        assert full["check"] == -(-plain["pay"] * 1_030_000 // 1_000_000)
        assert (full["pay"], full["fee"]) == (plain["pay"], plain["fee"])
        assert claim["assurance_ppm"] == 999_000, "one false row of 20 is more than 0.1 %"
        assert claim["check"] == -(-plain["pay"] * 1_029_000 // 1_000_000)


async def test_a_quote_reserves_nothing_and_the_batch_then_costs_it(tmp_path):
    async with open_customer_side(tmp_path) as side, client_of(side) as client:
        before = (await client.get("/api/v1/accounts/me")).json()
        quote = (await _quote(client, metadata={"assurance": "0.9/0.2"})).json()
        after = (await client.get("/api/v1/accounts/me")).json()
        assert before == after
        assert quote["balance"] == before["balance"]

        made = (await _batch(client, "0.9/0.2")).json()
        over = await until_over(client, made["id"])

        assert over["status"] == "completed"
        assert over["metadata"] == {"assurance": "0.9/0.2", "mine": "x"}
        assert over["inferpool"]["price"] == quote["total"]
        assert over["inferpool"]["assurance_ppm"] == quote["assurance_ppm"] > 0


async def test_the_board_is_told_what_was_bought(tmp_path):
    config = replace(CONFIG, trust=TrustConfig(trusted=("miner",)))
    async with open_customer_side(tmp_path, config, go=False) as side, client_of(side) as client:
        for wish in ("full", "trusted"):
            await _batch(client, wish)
        await make_batch(client, LINES)
        for job in (1, 2, 3):
            while job not in side.core.jobs:
                await side.core.opened.wait()
                await trio.sleep(0.01)
        events = [side.store.job_opened(job, 0.0) for job in (1, 2, 3)]

        assert [(event.assurance_ppm, event.trusted) for event in events] == [
            (1_000_000, False),
            (0, True),
            (0, False),
        ]
        assert [event.check_budget for event in events] == [
            -(-event.work * (30_000 + ppm) // 1_000_000)
            for event, ppm in zip(events, (1_000_000, 0, 0), strict=True)
        ]


@pytest.mark.parametrize("wish", ["most", "1/0.1", "0.9/1"])
async def test_what_cannot_be_bought_is_refused_before_anything_is_made(tmp_path, wish):
    async with open_customer_side(tmp_path) as side, client_of(side) as client:
        for answer in (
            await _batch(client, wish),
            await _quote(client, metadata={"assurance": wish}),
        ):
            error = answer.json()["error"]
            assert answer.status_code == 400
            assert (error["code"], error["param"]) == ("invalid_value", "metadata.assurance")
            assert '"full"' in error["message"] or "below 1" in error["message"]
        with side.store.database.read() as connection:
            assert connection.execute(select(schema.job)).all() == []


async def test_trusted_needs_an_operator_who_named_rigs(tmp_path):
    async with open_customer_side(tmp_path) as side, client_of(side) as client:
        answer = await _batch(client, "trusted")

        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == (
            'metadata.assurance: the operator names no trusted rigs: leave it out, or write "full"'
        )


async def test_a_file_that_would_fail_gets_its_reason_and_line(tmp_path):
    async with open_customer_side(tmp_path) as side, client_of(side) as client:
        answer = await _quote(client, LINES + b"nonsense\n")
        error = answer.json()["error"]

        assert answer.status_code == 400
        assert error["code"] == "invalid_json_line"
        assert error["message"].startswith("line 21: ")


async def test_another_account_s_file_is_not_quoted(tmp_path):
    async with (
        open_customer_side(tmp_path) as side,
        client_of(side) as client,
        client_of(side, side.poor_key) as poor,
    ):
        file = await upload(client, LINES)
        answer = await poor.post(
            "/api/v1/quotes", json={"input_file_id": file, "endpoint": "/v1/embeddings"}
        )

        assert answer.json()["error"]["code"] == "file_not_found"


async def test_a_quote_leaves_no_files_behind(tmp_path):
    async with open_customer_side(tmp_path) as side, client_of(side) as client:
        await _quote(client)

        assert list(side.runner.scratch.glob("quote-*")) == []

"""The life of a batch across stops at any moment, expiry, and workers that fail."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
from customer_side import (
    CONFIG,
    Served,
    client_of,
    content,
    digest_line,
    embed_line,
    jsonl,
    make_batch,
    open_customer_side,
    until_over,
    upload,
)
from sqlalchemy import select

from pool.batches import delivery, runner
from pool.batches.housekeeping import remove_direct_blocks, remove_expired_files
from pool.config import BatchesConfig
from pool.http import files
from pool.store import schema
from pool.store.files import find_file
from pool.store.jobs import find_job, move_job, unfinished_jobs
from pool.store.ledger import balance
from pool.store.ledgeraudit import check_ledger

LINES = [embed_line(i, f"w{4 + i % 30}") for i in range(300)] + [
    embed_line(300, "w4", user=1)
]  # the last is refused


class SimulatedCrash(BaseException):
    """Ends everything at once, as kill -9 does; what was committed stays."""


@pytest.mark.parametrize(
    "point",
    [
        "intake.packed",
        "intake.before_commit",
        "intake.committed",
        "output.written",
        "output.stored",
        "output.before_commit",
        "output.committed",
    ],
)
async def test_a_batch_survives_a_stop_around_every_durable_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """After the next start it completes with the same bytes, paid for once."""
    armed = True

    def crash(name: str) -> None:
        if armed and name == point:
            raise SimulatedCrash

    for module in (runner, delivery):
        monkeypatch.setattr(module, "crash_point", crash)
    batch = ""
    with pytest.RaisesGroup(SimulatedCrash, flatten_subgroups=True, allow_unwrapped=True):
        async with open_customer_side(tmp_path / "pool") as side, client_of(side) as client:
            batch = await make_batch(client, jsonl(LINES))
            await trio.sleep_forever()
    armed = False
    async with open_customer_side(tmp_path / "pool") as side, client_of(side) as client:
        over = await until_over(client, batch)
        again = await until_over(client, await make_batch(client, jsonl(LINES)))
        outputs = [await content(client, b["output_file_id"]) for b in (over, again)]
        errors = [await content(client, b["error_file_id"]) for b in (over, again)]
        with side.store.database.read() as connection:
            check_ledger(connection)
            left = balance(connection, "customer:rich")

    assert over["status"] == "completed"
    assert over["request_counts"] == {"total": 301, "completed": 300, "failed": 1}
    assert outputs[0] == outputs[1]
    assert errors[0] == errors[1]
    assert left == 1_000_000 - 2 * over["inferpool"]["price"]


async def test_an_upload_that_cannot_be_stored_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The customer hears 500 with an id; its scratch file is gone."""

    def crash(name: str) -> None:
        if name == "upload.before_commit":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "crash_point", crash)
    async with open_customer_side(tmp_path / "pool") as side, client_of(side) as client:
        answer = await client.post("/v1/files", files={"file": b"x"}, data={"purpose": "batch"})
        listed = (await client.get("/v1/files")).json()

    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert listed["data"] == []
    assert list((tmp_path / "pool" / "work" / "uploads").iterdir()) == []


async def test_a_batch_whose_time_is_over_expires_with_what_is_done(tmp_path: Path) -> None:
    """The rest goes to the error file."""
    async with (
        open_customer_side(tmp_path / "pool", go=False) as side,
        client_of(side) as client,
    ):
        batch = await make_batch(client, jsonl(LINES), window="1m")
        await side.core.opened.wait()
        (job,) = side.core.jobs
        await side.core.half(job)
        with side.store.database.write() as connection:
            past = side.clock.now() - 1
            assert move_job(connection, job, ("in_progress",), "in_progress", expires_at=past)
        over = await until_over(client, batch)
        errors = (await content(client, over["error_file_id"])).decode()

    assert over["status"] == "expired"
    assert over["expired_at"] is not None
    assert over["request_counts"] == {"total": 301, "completed": 75, "failed": 226}
    assert errors.count('"batch_expired"') == 225


async def test_a_batch_cancelled_while_it_is_read_is_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was reserved and no file comes of it."""
    reading = trio.Event()

    class Stuck:
        async def run(self, function, argument, *, lane: str):
            reading.set()
            await trio.sleep_forever()

    async with open_customer_side(tmp_path / "pool") as side, client_of(side) as client:
        monkeypatch.setattr(side.runner, "_workers", Stuck())
        batch = await make_batch(client, jsonl(LINES))
        await reading.wait()
        answer = (await client.post(f"/v1/batches/{batch}/cancel")).json()
        over = await until_over(client, batch)

    assert answer["status"] in ("cancelling", "cancelled")
    assert over["status"] == "cancelled"
    assert over["inferpool"]["price"] == 0
    assert (over["output_file_id"], over["error_file_id"]) == (None, None)


@pytest.mark.parametrize(
    "config", [msgspec.structs.replace(CONFIG, batches=BatchesConfig(workers=4))]
)
async def test_one_customer_has_two_batches_read_at_once_and_others_theirs(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cannot pay keeps nobody else's workers busy; a batch that waits can be cancelled."""
    began, readers = trio.open_memory_channel[str](9)

    class Stuck:
        async def run(self, function, argument, *, lane: str):
            await began.send(argument.input_path.name)
            await trio.sleep_forever()

    monkeypatch.setattr(served.runner, "_workers", Stuck())
    async with client_of(served) as client, client_of(served, served.poor_key) as poor:
        mine, inputs = [], []
        for _ in range(4):
            batch = await make_batch(client, jsonl(LINES))
            mine.append(batch)
            inputs.append((await client.get(f"/v1/batches/{batch}")).json()["input_file_id"])
        reading = {await readers.receive() for _ in range(2)}
        await make_batch(poor, jsonl(LINES))
        others = await readers.receive()
        waiting = next(b for b, file in zip(mine, inputs, strict=True) if file not in reading)
        await client.post(f"/v1/batches/{waiting}/cancel")
        over = await until_over(client, waiting)

    assert reading < set(inputs)
    assert others not in inputs
    assert over["status"] == "cancelled"


async def test_an_intake_that_breaks_fails_its_batch_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch is served as ever."""
    good = served.runner._workers

    class Broken:
        async def run(self, function, argument, *, lane: str):
            monkeypatch.setattr(served.runner, "_workers", good)
            raise OSError("the worker is gone")

    async with client_of(served) as client:
        monkeypatch.setattr(served.runner, "_workers", Broken())
        first = await until_over(client, await make_batch(client, jsonl(LINES)))
        second = await until_over(client, await make_batch(client, jsonl(LINES)))

    assert first["status"] == "failed"
    assert first["errors"]["data"][0]["code"] == "intake_failed"
    assert second["status"] == "completed"


async def test_an_output_that_breaks_is_tried_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk that is emptied soon costs nobody a batch."""
    monkeypatch.setattr(runner, "_OUTPUT_PAUSES", (0.0,))
    failed = []

    def write_once(task):
        if not failed:
            failed.append(task)
            raise OSError(28, "No space left on device")
        return original(task)

    original = runner.write_output
    monkeypatch.setattr(runner, "write_output", write_once)
    async with client_of(served) as client:
        over = await until_over(client, await make_batch(client, jsonl(LINES)))

    assert failed
    assert over["status"] == "completed"


async def test_a_direct_request_that_nobody_serves_times_out_and_ends(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The customer hears 504 and no retry; the job is cancelled behind it."""
    served.core.go = trio.Event()
    quick = CONFIG.http.__class__(direct_timeout_seconds=0.05)
    monkeypatch.setattr(
        served.runner._direct, "_config", CONFIG.__class__(http=quick, batches=CONFIG.batches)
    )
    async with client_of(served) as client:
        answer = await client.post("/v1/embeddings", json={"model": "tiny", "input": "w4"})
        with trio.fail_after(30):
            while True:
                with served.store.database.read() as connection:
                    if not unfinished_jobs(connection):
                        row = find_job(connection, 1)
                        break
                await trio.sleep(0.01)

    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "request_timeout"
    assert answer.headers["x-should-retry"] == "false"
    assert (row.state, row.closed) == ("cancelled", "cancelled")


async def test_a_direct_request_cut_off_by_a_stop_is_cancelled_at_the_next_start(
    tmp_path: Path,
) -> None:
    """Nobody waits for its answer any more, so nobody pays for it."""
    async with open_customer_side(tmp_path / "pool", go=False) as side:
        async with trio.open_nursery() as nursery, client_of(side) as client:
            nursery.start_soon(
                lambda: client.post("/v1/embeddings", json={"model": "tiny", "input": "w4"})
            )
            await side.core.opened.wait()
            nursery.cancel_scope.cancel()
        with side.store.database.write() as connection:
            # As kill -9 leaves it: no end was written.
            assert find_job(connection, 1).state == "in_progress"
    async with open_customer_side(tmp_path / "pool", go=False) as side:
        with trio.fail_after(30):
            state = "in_progress"
            while state == "in_progress":
                await trio.sleep(0.01)
                with side.store.database.read() as connection:
                    state = find_job(connection, 1).state

    assert state == "cancelled"


async def test_digests_go_the_same_way(served: Served) -> None:
    """The model without weights takes token ids and gives 32 bytes in hexadecimal."""
    async with client_of(served) as client:
        lines = [digest_line(0, [1, 2, 3]), digest_line(1, [[1], [4_000_000_000]])]
        lines.append(digest_line(2, "text"))
        batch = await make_batch(client, jsonl(lines), "/v1/digests")
        over = await until_over(client, batch)
        output = await content(client, over["output_file_id"])
        errors = await content(client, over["error_file_id"])
        direct = await client.post("/v1/digests", json={"model": "blake2b", "input": [1, 2, 3]})

    assert over["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert direct.json()["data"][0]["digest"].encode() in output
    assert b"must be a list of token ids" in errors or b"must be token ids" in errors
    assert direct.json()["data"][0]["object"] == "digest"


async def test_expired_files_vanish(served: Served) -> None:
    """Their objects too, some moments later."""
    async with client_of(served) as client:
        name = await upload(client, b"x")
        with served.store.database.write() as connection:
            file = find_file(connection, "rich", name, 0.0)
            assert file is not None
            connection.exec_driver_sql("UPDATE file SET expires = 1")
        gone = await client.get(f"/v1/files/{name}")
        remove_expired_files(served.store, served.clock.now())

    assert not served.store.objects.exists(file.object)
    assert gone.status_code == 404


async def test_direct_requests_leave_no_blocks_for_good(served: Served) -> None:
    """Neither those that were served nor those that could not be paid."""
    body = {"model": "tiny", "input": "w4"}
    async with client_of(served) as client, client_of(served, served.poor_key) as poor:
        assert (await client.post("/v1/embeddings", json=body)).status_code == 200
        assert (await poor.post("/v1/embeddings", json=body)).status_code == 429
        kept = served.store.objects.list("direct")
        remove_direct_blocks(served.store, served.clock.now() - 60)
        still = served.store.objects.list("direct")
        remove_direct_blocks(served.store, served.clock.now() + 60)

    assert len(kept) == 1
    assert still == kept
    assert served.store.objects.list("direct") == []


@pytest.mark.parametrize("needed_by", ["appeal", "excuse"])
async def test_what_is_undecided_keeps_the_rows_of_a_direct_request(
    served: Served, needed_by: str
) -> None:
    """An appeal, or a wrong row that was put down to a kind of device: until it is decided."""
    body = {"model": "tiny", "input": "w4"}
    async with client_of(served) as client:
        assert (await client.post("/v1/embeddings", json=body)).status_code == 200
    table = schema.appeal if needed_by == "appeal" else schema.excuse
    facts = {"lease": 1, "account": "m", "rig": "r"}
    if needed_by == "appeal":
        facts |= {"opened": 6.0}
    else:
        facts |= {"model": "d", "kind": "k", "rows": 1, "price": 1, "at": 6.0}
    with served.store.database.write() as connection:
        job = connection.scalar(select(schema.job.c.id).where(schema.job.c.direct))
        row = {"lease": 1, "job": job, "block": 0, "row": 0, "offence": False, "at": 5.0}
        connection.execute(schema.refuted.insert().values(row | {"given": b"g", "expected": b"e"}))
        connection.execute(table.insert().values(facts))
    remove_direct_blocks(served.store, served.clock.now() + 60)
    kept = served.store.objects.list("direct")
    with served.store.database.write() as connection:
        connection.execute(table.update().values(outcome="decided"))
    remove_direct_blocks(served.store, served.clock.now() + 60)

    assert len(kept) == 1
    assert served.store.objects.list("direct") == []

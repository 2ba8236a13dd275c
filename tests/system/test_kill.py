"""`kill -9` of the pool and of rigs: nothing acknowledged is lost, nothing paid twice."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import httpx
import pytest
from harness import (
    Pool,
    check_output,
    digest_lines,
    output_of,
    patient,
    pool_with_rigs,
    submit,
    wait_for_batch,
)
from sqlalchemy import select

from pool.crashpoints import NAMES
from pool.store import schema
from pool.store.ledgeraudit import check_ledger
from pool.store.moneytable import money_table

ROWS = 1500
LINES = digest_lines(ROWS, seed=7)
# The points of the short form; the store's own tests kill it at all of its points.
SHORT = {"log.synced", "output.stored"}
SPEEDS = {"alice": 120.0, "bob": 90.0}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The output of the same input when nothing is killed."""
    speeds = dict.fromkeys(SPEEDS, 2000.0)
    with pool_with_rigs(tmp_path_factory.mktemp("undisturbed"), speeds) as (pool, _):
        pool.start()
        with pool.client("carol") as client:
            batch = wait_for_batch(client, submit(client, LINES))
            assert batch["status"] == "completed", batch
            output = output_of(client, batch)
    check_output(output, LINES)
    return output


def money_is_in_balance(pool: Pool) -> None:
    """The ledger adds up; the job's price is divided to the unit; every row is paid once."""
    deadline = time.monotonic() + 30
    with pool.store() as store:
        while True:
            with store.database.read() as connection:
                job = connection.execute(select(schema.job)).one()
                if job.settled is not None:
                    break
            assert time.monotonic() < deadline, "the job was not settled"
            time.sleep(0.2)
        with store.database.read() as connection:
            check_ledger(connection)
            table = money_table(connection, job.id)

    assert table.total == table.price
    assert table.escrow == 0
    assert table.pending == 0
    # Work 1 and price 1 a row.
    assert table.held + table.available == ROWS


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_the_pool_killed_again_and_again_at_random_moments(
    tmp_path: Path, undisturbed: bytes, kills: int
) -> None:
    """After all those kills in the middle of a batch the output is the undisturbed one."""
    dice = random.Random(20)
    with pool_with_rigs(tmp_path, SPEEDS) as (pool, _):
        pool.start()
        with pool.client("carol") as client:
            name = submit(client, LINES)
            for _ in range(kills):
                time.sleep(dice.uniform(0.05, 0.6))
                assert pool.process is not None
                pool.process.kill()
                pool.start()
            batch = wait_for_batch(client, name)

            assert batch["status"] == "completed", batch
            assert output_of(client, batch) == undisturbed
            money_is_in_balance(pool)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_rigs_killed_at_random_moments(tmp_path: Path, undisturbed: bytes) -> None:
    """A rig that dies costs what it had not sent, and nobody's money."""
    dice = random.Random(21)
    with pool_with_rigs(tmp_path, SPEEDS) as (pool, rigs):
        pool.start()
        with pool.client("carol") as client:
            name = submit(client, LINES)
            for _ in range(8):
                time.sleep(dice.uniform(0.1, 0.8))
                dice.choice(rigs).kill_and_restart()
            batch = wait_for_batch(client, name)

            assert batch["status"] == "completed", batch
            assert output_of(client, batch) == undisturbed
            money_is_in_balance(pool)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=[] if point in SHORT else pytest.mark.long)
        for point in sorted(NAMES)
        if not point.startswith("payout.")  # see test_payouts_killed
    ],
)
def test_the_pool_killed_at_a_named_point(tmp_path: Path, undisturbed: bytes, point: str) -> None:
    """Around every durable write: before, between and after its steps."""
    speeds = dict.fromkeys(SPEEDS, 1500.0)
    nth = {"object.before": 2, "object.written": 2, "object.synced": 2}.get(point, 1)
    if point.startswith(("log.", "store.", "settlement.")):
        nth = 4  # in the middle of the batch
    with pool_with_rigs(tmp_path, speeds) as (pool, _):
        process = pool.start(crash_at=f"{point}:{nth}")
        if process.code is not None:
            pool.start()
        with pool.client("carol") as client:
            name = _submit_stubbornly(pool, client)
            deadline = time.monotonic() + 60
            while process.code is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert process.code == -signal.SIGKILL, f"{point} was never passed"
            if pool.process is process:
                pool.start()
            batch = wait_for_batch(client, name)

            assert batch["status"] == "completed", batch
            assert output_of(client, batch) == undisturbed
            money_is_in_balance(pool)


def _submit_stubbornly(pool: Pool, client: httpx.Client) -> str:
    """Hand the batch in; when the pool dies of it, start the pool and hand it in again."""
    for _ in range(3):
        try:
            return submit(client, LINES)
        except httpx.TransportError:
            assert pool.process is not None
            pool.process.wait()
            pool.start()
            found = patient(client, "/batches").json()["data"]
            if found:  # it was created; only the answer was lost
                return str(found[0]["id"])
    raise AssertionError("the batch could not be handed in")

"""Receipts that a rig keeps: fetched once each, whatever the network does; never asked in clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_pool import ADDRESS, ScriptedPool, rows_of

from gpu_worker import receipts
from gpu_worker.config import PoolAddress
from gpu_worker.receipts import ReceiptKeeper
from gpu_worker.rig import Rig


def page(*sequences: int, following: int | None = None) -> bytes:
    data = [{"root": {"sequence": n}} for n in sequences]
    return json.dumps({"data": data, "next_after": following}).encode()


def path_of(after: int) -> str:
    return f"/api/v1/accounts/me/receipts?after={after}&limit=1000"


def file_of(folder: Path, kind: str) -> Path:
    return folder / f"pool.example_3333/alice.rig1.{kind}.jsonl"


def kept(folder: Path, kind: str) -> list[Any]:
    lines = file_of(folder, kind).read_text().splitlines()
    return [json.loads(line)["data"] for line in lines]


def cut_short(file: Path) -> None:
    """As when the machine loses power while it writes."""
    file.write_text(file.read_text() + '{"data": [{"ro')


@pytest.fixture
def keeper(tmp_path: Path) -> ReceiptKeeper:
    return ReceiptKeeper(tmp_path, "alice.rig1", "secret")


async def test_pages_are_fetched_one_after_the_other_and_only_once(
    keeper: ReceiptKeeper, file_server: Any, tmp_path: Path
) -> None:
    """A rig that starts anew goes on behind what is in its file."""
    file_server.files = {
        path_of(0): page(1, 4, following=4),
        path_of(4): page(6),
        path_of(6): page(),
    }
    keeper.connected(ADDRESS, file_server.url(""))
    await keeper.catch_up()
    await keeper.catch_up()
    again = ReceiptKeeper(tmp_path, "alice.rig1", "secret")
    again.connected(ADDRESS, file_server.url(""))
    await again.catch_up()

    assert [path for path, _ in file_server.requests] == [path_of(0), path_of(4), path_of(6)]
    assert [[r["root"]["sequence"] for r in data] for data in kept(tmp_path, "receipts")] == [
        [1, 4],
        [6],
    ]


async def test_a_failure_is_tried_again(
    keeper: ReceiptKeeper, file_server: Any, tmp_path: Path
) -> None:
    """Nor does a line that was cut short cost more than itself."""
    file_server.files = {path_of(0): page(2), path_of(2): page(3)}
    file_server.mishaps = ["503"]
    keeper.connected(ADDRESS, file_server.url(""))
    await keeper.catch_up()
    assert not file_of(tmp_path, "receipts").exists()
    await keeper.catch_up()
    assert len(kept(tmp_path, "receipts")) == 1
    cut_short(file_of(tmp_path, "receipts"))
    again = ReceiptKeeper(tmp_path, "alice.rig1", "secret")
    again.connected(ADDRESS, file_server.url(""))
    await again.catch_up()

    assert [len(data) for data in kept(tmp_path, "receipts")] == [1, 1]


async def test_the_token_does_not_leave_in_clear(keeper: ReceiptKeeper, file_server: Any) -> None:
    """A pool that is dialled over TLS is asked over TLS."""
    keeper.connected(PoolAddress("pool.example", 3333, tls=True), file_server.url(""))
    await keeper.catch_up()

    assert file_server.requests == []


async def test_what_a_rig_delivers_is_written_down(
    pool: ScriptedPool,
    start_rig: Callable[..., Rig],
    file_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each part that the pool acknowledged, and none that it did not; also when the rig stops."""
    monkeypatch.setattr(receipts, "INTERVAL", 0.05)
    file_server.files = {path_of(0): page(1)}
    pool.greeting = {"web": file_server.url("")}
    pool.on_submit = lambda _, part: "unknown_lease" if part.lease == 8 else None
    rig = start_rig(receipts=tmp_path / "kept")
    session = await pool.session()
    session.give(7, rows_of(6))
    session.give(8, rows_of(2))
    await pool.until(
        lambda: (tmp_path / "kept/pool.example_3333").exists() and not len(rig._upstream.book)
    )
    rig.stop()
    await pool.until(lambda: session.over)

    delivered = [part for data in kept(tmp_path / "kept", "delivered") for part in data]
    assert delivered == [
        {"lease": 7, "part": 0, "rows": 4},
        {"lease": 7, "part": 1, "rows": 2},
    ]

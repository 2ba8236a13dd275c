"""The example worker, in a process of its own, against a scripted pool over loopback."""

from __future__ import annotations

import ast
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from digest_pool import ScriptedPool, expected, some_shares

from stratum.server import open_listeners

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "minimal_worker.py"


@asynccontextmanager
async def _serving(pool: ScriptedPool) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners = await open_listeners("127.0.0.1", 0)
        nursery.start_soon(trio.serve_listeners, pool.serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _work(port: int, folder: Path, *, shares: int) -> tuple[int, str]:
    token = folder / "token"
    token.write_text("sesame\n")
    words = ["--pool", f"127.0.0.1:{port}", "--user", "alice.rig1"]
    words += ["--token-file", str(token), "--shares", str(shares)]
    with trio.fail_after(60):
        done = await trio.run_process(
            [sys.executable, str(EXAMPLE), *words],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    return done.returncode, (done.stdout + done.stderr).decode()


def test_it_is_short_and_needs_nothing_of_ours() -> None:
    """Under 200 lines; msgpack and the standard library only."""
    text = EXAMPLE.read_text(encoding="utf-8")
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])

    assert len(text.splitlines()) < 200
    assert names - set(sys.stdlib_module_names) == {"msgpack"}


async def test_it_completes_its_shares(tmp_path: Path) -> None:
    """Every row right, a long share in several parts, and it stops after the last."""
    shares = some_shares(2, 5) | {3: [[n] for n in range(70_000)]}
    pool = ScriptedPool(shares)
    async with _serving(pool) as port:
        code, output = await _work(port, tmp_path, shares=3)

    assert code == 0, output
    assert pool.tokens == [("alice.rig1", "sesame")]
    assert pool.results == {lease: expected(rows) for lease, rows in shares.items()}
    assert pool.parts == {1: 1, 2: 1, 3: 3}
    assert "welcome" in output


async def test_it_hands_back_what_is_over_its_limit(tmp_path: Path) -> None:
    """A share that comes after the last wanted one goes back to the pool at once."""
    pool = ScriptedPool(some_shares(3, 4))
    pool.withheld = {3}
    async with _serving(pool) as port:
        code, output = await _work(port, tmp_path, shares=1)

    assert code == 0, output
    assert pool.finished == {1, 2}
    assert pool.released == [3]


async def test_unacknowledged_parts_are_sent_again_after_a_reconnect(tmp_path: Path) -> None:
    """The pool took two parts and vanished before it answered: duplicates count as answers."""
    pool = ScriptedPool(some_shares(3, 4))
    pool.swallow = 2
    async with _serving(pool) as port:
        code, output = await _work(port, tmp_path, shares=3)

    assert code == 0, output
    assert pool.sessions == ["", "session-1"]
    assert pool.duplicates == 2
    assert pool.results == {lease: expected(rows) for lease, rows in pool.shares.items()}


async def test_a_wrong_token_ends_it_with_the_pools_words(tmp_path: Path) -> None:
    pool = ScriptedPool({})
    pool.refuse_with = (24, "bad_token")
    async with _serving(pool) as port:
        code, output = await _work(port, tmp_path, shares=1)

    assert code == 1
    assert "bad_token" in output

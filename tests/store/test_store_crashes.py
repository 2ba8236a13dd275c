"""``kill -9`` around every durable write: what was acknowledged stays, and money is posted once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import crash_history
import pytest
from bookmaker import Bookmaker, values
from crash_history import JOB, ROWS, SHARES
from sqlalchemy import select

import pool
from pool.crashpoints import NAMES, VARIABLE
from pool.store import Store, schema
from pool.store.results import missing_rows, read_part, result_runs

HERE = Path(__file__).parent
MINE = sorted(
    name
    for name in NAMES
    if name.partition(".")[0] in {"log", "store", "recovery", "object", "settlement"}
)


def play(folder: Path) -> list[str]:
    """Play the history to its end; returns what it acknowledged."""
    acknowledged: list[str] = []
    crash_history.play(folder, acknowledged.append, durable=False)
    assert acknowledged[-1] == "finished"
    return acknowledged


def play_until(folder: Path, crash_at: str) -> list[str]:
    """Play the history in a process that is killed there; returns what it had acknowledged."""
    environment = os.environ | {
        VARIABLE: crash_at,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(Path(pool.__file__).parents[1])]),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "crash_history.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.splitlines()


def facts(folder: Path, acknowledged: list[str]) -> dict[str, int]:
    """Look at what is there; everything acknowledged must be. Returns the balances."""
    store = Store.open(folder, durable=False)
    try:
        books = Bookmaker(store)
        store.recover(books.arrays)
        with store.database.read() as connection:
            verdicts = dict(
                connection.execute(select(schema.lease.c.id, schema.lease.c.verdict)).all()
            )
            parts = connection.execute(select(schema.part)).all()
            jobs = connection.scalars(select(schema.job.c.id)).all()
        for part in parts:
            stored = store.log.read(part.log, part.offset, part.bytes)
            assert stored == values(part.lease, 0, ROWS)
        for line in acknowledged:
            what, _, number = line.partition(" ")
            if what == "part":
                assert int(number) in {part.lease for part in parts}
            elif what == "verdict":
                assert verdicts[int(number)] in ("cleared", "rejected")
            elif what == "object":
                assert store.objects.get(f"made/{number}") == b"object %d" % int(number) * 1000
            elif what == "job":
                assert jobs == [JOB]
        books.check()
        return books.balances()
    finally:
        store.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return facts(folder, play(folder))


def test_the_undisturbed_history_pays_for_every_row_once(undisturbed: dict[str, int]) -> None:
    assert undisturbed["held:alice.a"] == SHARES * ROWS
    assert not any(code.startswith(("escrow", "pending", "held:mallory")) for code in undisturbed)


@pytest.mark.parametrize("name", MINE)
def test_a_kill_loses_nothing_that_was_acknowledged(
    tmp_path: Path, undisturbed: dict[str, int], name: str
) -> None:
    """Then the history goes on, and ends with the same money and one result for each row."""
    folder = tmp_path / "pool"
    # A start passes its points once; of the others take one in the middle of things.
    acknowledged = play_until(folder, name if name.startswith("recovery") else f"{name}:4")
    facts(folder, acknowledged)
    acknowledged += play(folder)

    assert facts(folder, acknowledged) == undisturbed
    store = Store.open(folder)
    with store.database.read() as connection:
        runs = result_runs(connection, store.log, JOB)
        assert missing_rows(connection, JOB, runs) == []
    assert sum(run.stop - run.start for run in runs[0]) == SHARES * ROWS
    assert all(read_part(run, 32)[1] == frozenset() for run in runs[0])
    store.close()


def test_every_crash_point_in_the_code_has_a_name() -> None:
    """And every name is somewhere in the code."""
    used: set[str] = set()
    for path in Path(pool.__file__).parent.rglob("*.py"):
        used |= set(re.findall(r'crash_point\(\s*"([^"]+)"', path.read_text(encoding="utf-8")))

    assert used == NAMES


@pytest.mark.parametrize("text", ["nowhere", "log.written:0", "log.written:x"])
def test_an_unknown_crash_point_is_refused_at_the_start(text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import pool.crashpoints"],
        env=os.environ | {VARIABLE: text},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert VARIABLE in done.stderr
    if text == "nowhere":
        assert "use one of" in done.stderr
        assert "log.written" in done.stderr

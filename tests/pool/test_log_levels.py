"""Levels that an operator changes beside a running pool."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from click.testing import CliRunner, Result

from pool.clock import Clock
from pool.commands.loglevel import log_level
from pool.loglevels import LogLevels
from pool.logs import LOGGERS
from pool.store import Store
from pool.store.loglevels import LogLevel, change_log_level, log_levels
from stratum.logs import configure

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path, durable=False)
    yield store
    store.close()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
async def levels(
    store: Store, stream: io.StringIO, nursery: trio.Nursery
) -> AsyncIterator[LogLevels]:
    sinks = configure("info", stream, terminal=False)
    levels = LogLevels(store, Clock(), sinks, "info")
    nursery.start_soon(levels.run)
    yield levels
    nursery.cancel_scope.cancel()


async def until_told(stream: io.StringIO, **expected: str) -> None:
    """Wait until the pool says that these levels hold."""
    with trio.fail_after(30):
        while True:
            found = [json.loads(line) for line in stream.getvalue().splitlines()]
            if any(line.get("levels") == expected for line in found):
                return
            await trio.sleep(0.01)


def change(store: Store, name: str, level: str | None, seconds: float | None = None) -> None:
    now = time.time()
    until = None if seconds is None else now + seconds
    to = None if level is None else LogLevel(level, until)
    change_log_level(store.database, name, to, now)


async def test_a_change_holds_at_once_and_can_be_taken_back(
    levels: LogLevels, store: Store, stream: io.StringIO
) -> None:
    log = structlog.get_logger("pool.http")
    log.debug("first")
    change(store, "pool.http", "debug")
    levels.look()
    await until_told(stream, all="info", **{"pool.http": "debug"})
    log.debug("second")
    structlog.get_logger("pool.core").debug("of another")
    change(store, "pool.http", None)
    levels.look()
    await until_told(stream, all="info")
    log.debug("third")

    told = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert [event for event in told if event != "log levels"] == ["second"]


async def test_a_change_for_a_time_ends_by_itself(
    levels: LogLevels, store: Store, stream: io.StringIO
) -> None:
    """The longer one goes on."""
    change(store, "pool.core", "warning")
    change(store, "", "debug", seconds=0.5)
    levels.look()
    await until_told(stream, all="debug", **{"pool.core": "warning"})
    await until_told(stream, all="info", **{"pool.core": "warning"})


async def test_who_silences_the_log_is_told_of_in_it(
    levels: LogLevels, store: Store, stream: io.StringIO
) -> None:
    change(store, "", "error")
    levels.look()
    await until_told(stream, all="error")
    with trio.fail_after(30):
        while structlog.get_logger("pool").is_enabled_for(30):  # noqa: ASYNC110
            await trio.sleep(0.01)


def test_what_is_over_is_forgotten(store: Store) -> None:
    change_log_level(store.database, "pool", LogLevel("debug", 100.0), 50.0)
    change_log_level(store.database, "", LogLevel("error", None), 50.0)
    with store.database.read() as connection:
        assert set(log_levels(connection, 99.0)) == {"", "pool"}
        assert set(log_levels(connection, 101.0)) == {""}

    change_log_level(store.database, "", None, 101.0)
    with store.database.read() as connection:
        assert log_levels(connection, 1.0) == {}


def test_every_logger_of_the_pool_can_be_named() -> None:
    named = {
        name
        for file in (ROOT / "pool").rglob("*.py")
        if "demo" not in file.parts
        for name in re.findall(r'get_logger\("?([a-z.]*)"?\)', file.read_text(encoding="utf-8"))
    }

    assert named == {name for name in LOGGERS if name not in ("libraries", "process")}


# ── the command ──────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pool.toml").write_text('log_level = "warning"\n')
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(log_level, [*arguments, "--config", str(folder)])


def shown(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run(folder, *arguments, "--json")
    assert done.exit_code == 0, done.output
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_the_command_changes_and_shows(folder: Path) -> None:
    assert shown(folder) == {"all": {"level": "warning", "until": None}}

    before = time.time()
    found = shown(folder, "debug", "--of", "pool.http", "--for", "600")
    assert found["pool.http"]["level"] == "debug"
    assert 600 <= found["pool.http"]["until"] - before < 660
    assert shown(folder, "info")["all"] == {"level": "info", "until": None}
    assert "pool.http" in run(folder).stdout
    assert shown(folder, "default", "--of", "pool.http") == {
        "all": {"level": "info", "until": None}
    }
    assert shown(folder, "default") == {"all": {"level": "warning", "until": None}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loud"], "is not one of"),
        (["debug", "--of", "pool.htp"], "use one of libraries, pool,"),
        (["debug", "--for", "0"], "0"),
        (["default", "--for", "5"], "--for needs a LEVEL"),
        (["--of", "pool"], "--of needs a LEVEL"),
    ],
)
def test_the_command_says_what_is_wrong(folder: Path, arguments: list[str], said: str) -> None:
    done = run(folder, *arguments)

    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert shown(folder) == {"all": {"level": "warning", "until": None}}

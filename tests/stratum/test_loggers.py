"""Loggers whose levels change while they are in use; lines that nobody can forge."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from typing import Any

import pytest
import structlog

from stratum.logs import Sinks, configure


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def sinks(stream: io.StringIO) -> Sinks:
    return configure("info", stream, terminal=False)


def events(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_levels_change_for_loggers_in_use(sinks: Sinks, stream: io.StringIO) -> None:
    """By name, for those below it, for bound ones; and back."""
    web, pool, other = map(structlog.get_logger, ("pool.http", "pool", "poolish"))
    bound = web.bind(a=1)
    logs = {"web": web, "pool": pool, "other": other, "bound": bound}

    def told() -> set[str]:
        before = len(events(stream))
        for name, log in logs.items():
            log.debug(name)
        return set(events(stream)[before:])

    assert told() == set()
    sinks.set_levels({"": "info", "pool.http": "debug"})
    assert told() == {"web", "bound"}
    sinks.set_levels({"": "info", "pool": "debug", "pool.http": "error"})
    assert told() == {"pool"}
    sinks.set_levels({"": "debug"})
    assert told() == set(logs)
    sinks.set_levels({"": "info"})
    assert told() == set()


def test_every_method_keeps_to_its_level(sinks: Sinks, stream: io.StringIO) -> None:
    log = structlog.get_logger("pool")
    names = ("debug", "info", "warning", "error")
    for least, level in enumerate(names):
        stream.seek(0)
        stream.truncate()
        sinks.set_levels({"": level})
        for name in names:
            getattr(log, name)(name)
            log.log(getattr(logging, name.upper()), name)
            assert log.is_enabled_for(getattr(logging, name.upper())) == (name in names[least:])
        log.critical("critical")
        log.exception("error")
        expected = [name for name in names[least:] for _ in range(2)] + ["critical", "error"]
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [line["event"] for line in lines] == expected
        assert [line["level"] for line in lines] == expected


def test_nothing_is_built_for_a_level_that_is_off(sinks: Sinks, stream: io.StringIO) -> None:
    class Dear:
        def __repr__(self) -> str:
            raise AssertionError("nobody asked for this")

    log = structlog.get_logger("pool")
    log.debug("quiet", dear=Dear())
    with pytest.raises(AssertionError, match="nobody asked"):
        log.info("told", dear=Dear())


HOSTILE = 'x\n{"event": "forged"}\r\x1b[2J\x9b31m\u2028\u202e'


def test_json_lines_cannot_be_forged(sinks: Sinks, stream: io.StringIO) -> None:
    structlog.get_logger("pool").info(HOSTILE, account=HOSTILE, more=[HOSTILE], odd={HOSTILE: 1})

    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["account"] == HOSTILE


@pytest.mark.parametrize("terminal", [True, False])
def test_secrets_are_hidden_wherever_they_come_from(stream: io.StringIO, terminal: bool) -> None:
    """The event, its facts, what is bound, the context."""
    configure("info", stream, terminal=terminal)
    token = "ip__oluHtNcDlJZETPfBpysnBH7pmwT8g9eWgWULC85yX8"
    log = structlog.get_logger("pool").bind(bound=token)
    with structlog.contextvars.bound_contextvars(user=token):
        log.info(f"came with {token}", given=[token], token="hunter2")

    assert stream.getvalue().count("***") == 5
    assert token not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_terminal_is_not_told_what_to_do(stream: io.StringIO) -> None:
    """Its own colours aside, nothing but printable characters on one line."""
    configure("info", stream, terminal=True)
    log = structlog.get_logger("pool")
    log.info(HOSTILE, account=HOSTILE, more=[HOSTILE], odd={HOSTILE: 1}, number=3)
    log.error("failed", exc_info=ValueError(HOSTILE))

    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    for line in lines:
        assert "\x1b[2J" not in line
        assert re.sub(r"\x1b\[\d+m", "", line).isprintable()


def test_a_log_that_cannot_be_written_is_nobodys_failure() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    configure("info", Full(), terminal=False)
    structlog.get_logger("pool").info("told to nobody")


PROGRAM = """
import logging, sys, warnings
from stratum.logs import adopt_process, configure
configure("info", sys.stderr, terminal=False)
adopt_process()
adopt_process()
logging.getLogger("some.library").warning("careful:\\n%s", "two lines")
logging.getLogger("some.library").info("quiet")
warnings.warn("old")
class Dying:
    def __del__(self):
        raise ValueError("the customer's text")
Dying()
raise LookupError("the customer's text")
"""


def test_libraries_and_what_nobody_caught_are_events_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]

    assert done.returncode == 1
    assert [line["level"] for line in lines] == ["warning", "warning", "error", "critical"]
    assert (lines[0]["event"], lines[0]["library"]) == ("careful:\ntwo lines", "some.library")
    assert lines[2]["raised"].startswith("ValueError at")
    assert lines[3]["raised"].startswith("LookupError at")
    assert "the customer's text" not in done.stderr

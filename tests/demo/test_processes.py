"""The demo's processes: waited for, missed when they end, and never left behind."""

from __future__ import annotations

import os
import textwrap

import pytest

from pool.demo import processes
from pool.demo.processes import Crew, ProcessError


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that the crew can start."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    return write


@pytest.fixture
def crew(tmp_path):
    crew = Crew(tmp_path)
    yield crew
    crew.kill()


STEADY = """
    import json, sys, time
    print("words for a person", file=sys.stderr)
    print(json.dumps({"event": "listening", "http": "127.0.0.1:80"}), file=sys.stderr, flush=True)
    time.sleep(600)
"""
STUBBORN = """
    import json, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(json.dumps({"event": "deaf"}), flush=True)
    time.sleep(600)
"""


def pids(crew):
    return [process.pid for process in crew._all]


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_an_event_in_the_log_is_waited_for(crew, module):
    """Other lines are passed over."""
    crew.start("one", module("steady", STEADY))

    assert (await crew.event("one", "listening"))["http"] == "127.0.0.1:80"
    await crew.stop()


async def test_a_process_that_ends_too_soon_is_told_with_its_last_words(crew, module):
    """Whoever waits for it does not wait for ever."""
    crew.start("one", module("brief", 'raise SystemExit("no disk left")'))

    with pytest.raises(ProcessError, match=r"one ended with exit code 1:\n  no disk left"):
        await crew.event("one", "listening")


async def test_stop_ends_everything_even_the_deaf(crew, module, monkeypatch):
    """SIGTERM first, SIGKILL for what stays."""
    monkeypatch.setattr(processes, "_TERM_SECONDS", 0.2)
    crew.start("pool", module("steady", STEADY))
    crew.start("rig", module("stubborn", STUBBORN))
    await crew.event("pool", "listening")
    await crew.event("rig", "deaf")
    await crew.stop()

    assert all(gone(pid) for pid in pids(crew))
    crew.check()  # what was ended on purpose is not missed


async def test_a_short_command_that_fails_is_told_in_its_own_words(crew, module):
    """The demo shows them as they are."""
    name = module("refuses", 'raise SystemExit("Error: no such model")')

    with pytest.raises(ProcessError, match="model add failed: Error: no such model"):
        await crew.finish(name, "model", "add")


async def test_a_short_command_gives_what_it_printed(crew, module):
    """On stdout only."""
    name = module("speaks", 'import sys; print("facts"); print("words", file=sys.stderr)')

    assert await crew.finish(name) == b"facts\n"


def test_kill_ends_everything_at_once(crew, module):
    """For a second Ctrl-C."""
    crew.start("rig", module("stubborn", STUBBORN))
    crew.kill()
    (process,) = crew._all

    assert process.wait(10) != 0

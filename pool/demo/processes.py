"""The demo's processes: started, watched, and always ended."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

_TERM_SECONDS = 6.0
_LOOK_SECONDS = 0.05
_LINES_SHOWN = 15


class ProcessError(Exception):
    """A process ended, or did not do what was asked; the text has the end of its log."""


class Crew:
    """Processes of inferpool's own modules, each with a log in ``folder``.

    They run in sessions of their own, so that Ctrl-C reaches the demo alone, which then ends them
    in order.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}  # {name: process}, in order
        self._all: list[subprocess.Popen[bytes]] = []

    def log_of(self, name: str) -> Path:
        """Where ``name`` writes what it has to say."""
        return self._folder / f"{name}.log"

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start ``python -m MODULE ARGUMENTS`` under ``name``."""
        with self.log_of(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                _command(module, arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._all.append(self._running[name])

    async def finish(self, module: str, *arguments: str) -> bytes:
        """Run a short command to its end; returns what it printed. Raises ``ProcessError``."""
        done = await trio.run_process(
            _command(module, arguments),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip()
            raise ProcessError(f"{' '.join(arguments[:2])} failed: {words}")
        return done.stdout

    async def event(self, name: str, event: str) -> dict[str, Any]:
        """Wait until the log of ``name`` has this event; returns its fields."""
        while True:
            for fields in self.events(name, event):
                return fields
            self.check()
            await trio.sleep(_LOOK_SECONDS)

    def events(self, name: str, event: str) -> Iterator[dict[str, Any]]:
        """Every such event in the log of ``name`` so far."""
        for line in self.log_of(name).read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict) and fields.get("event") == event:
                    yield fields

    def check(self) -> None:
        """Raise ``ProcessError`` when a process has ended that should be running."""
        for name, process in self._running.items():
            code = process.poll()
            if code is not None:
                raise ProcessError(f"{name} ended with exit code {code}:\n{self._tail(name)}")

    async def stop(self) -> None:
        """End everything, what was started first last: SIGTERM, and SIGKILL for what stays."""
        first, *others = self._running.values() if self._running else (None,)
        self._running.clear()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for process in others:
                    nursery.start_soon(_end, process)
            if first is not None:
                await _end(first)

    def kill(self) -> None:
        """End everything at once."""
        for process in self._all:
            if process.poll() is None:
                process.kill()

    def _tail(self, name: str) -> str:
        lines = self.log_of(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LINES_SHOWN:])


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    # -P: a folder named "pool" where the demo was started is none of ours.
    return [sys.executable, "-P", "-m", module, *arguments]


async def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with trio.move_on_after(_TERM_SECONDS):
        await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
    if process.poll() is None:
        process.kill()
        process.wait()

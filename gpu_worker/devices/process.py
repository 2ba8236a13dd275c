"""A device in a process of its own, as the rig sees it.

Pipes rather than shared memory: rows are a few bytes each and results are small beside what it
takes to compute them, and a pipe tells at once that its other end has died.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog
import trio

from gpu_worker.devices import frames
from gpu_worker.devices.base import Computed, Device, DeviceRefused, Rows, Run
from gpu_worker.devices.child import DEFAULT_ENGINE
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.engine import Chunk, DeviceLost, EngineError, OutOfMemory
from gpu_worker.telemetry import DeviceTelemetry

log = structlog.get_logger()

_READ_BYTES = 1 << 20
_START_SECONDS = 600.0
"""Kernels may be compiled, and golden vectors are computed, before a device is ready."""
_GOODBYE_SECONDS = 3.0


class DeviceProcess(Device):
    """Starts a process for a device and speaks to it.

    ``engine`` is ``module:name`` of what loads engines there. ``patience``: seconds that a chunk
    may take before the device counts as hung; its process is then killed.
    """

    depth = 2  # the next run is unpacked there before the one in work ends

    def __init__(
        self,
        spec: DeviceSpec,
        telemetry: DeviceTelemetry,
        *,
        engine: str = DEFAULT_ENGINE,
        patience: float = 900.0,
    ) -> None:
        super().__init__(spec, telemetry)
        self.kind = spec.name
        self.memory = 0
        self.pid = 0
        self._engine = engine
        self._patience = patience
        self._runs: dict[int, _ProcessRun] = {}  # {number: run}, in the order of the device
        self._loads: dict[int, _Waiter] = {}  # {engine: who waits for it}
        self._last = 0
        self._to_device, self._queue = trio.open_memory_channel[bytearray](float("inf"))
        self._lost: str | None = None
        self._last_news = 0.0
        self._words: deque[str] = deque(maxlen=5)  # the last lines that the process wrote
        self._process: trio.Process | None = None

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See ``Device.serve``."""
        process = await trio.lowlevel.open_process(
            self._command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._process, self.pid = process, process.pid
        refused: str | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process)
                nursery.start_soon(self._log, process)
                nursery.start_soon(self._watch)
                refused = await self._read(process, task_status)
                with trio.move_on_after(_GOODBYE_SECONDS):
                    await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._lose(self._lost or "it was stopped")
            await _end(process)
        if refused is not None:
            raise DeviceRefused(refused)
        raise DeviceLost(self._lost)

    async def load(self, manifest: Mapping[str, Any], files: Mapping[str, Path]) -> int:
        """See ``Device.load``."""
        number = self._number()
        waiter = self._loads[number] = _Waiter()
        paths = {name: str(path) for name, path in files.items()}
        try:
            self._send(frames.Load(number, json.dumps(manifest).encode(), paths))
            await waiter.wait()
        finally:
            self._loads.pop(number, None)
        return number

    def unload(self, engine: int) -> None:
        """See ``Device.unload``."""
        if self._lost is None:
            self._send(frames.Unload(engine))

    def begin(self, rows: Rows, begun: Callable[[], None]) -> Run:
        """See ``Device.begin``."""
        run = _ProcessRun(self, self._number(), begun)
        self._send(
            frames.Compute(
                run.number,
                rows.engine,
                rows.operation,
                _bytes(rows.lengths),
                _bytes(rows.tokens),
                rows.rows_per_chunk,
            )
        )
        if not self._runs:
            self._last_news = trio.current_time()
        self._runs[run.number] = run
        return run

    def cancel(self, number: int) -> None:
        """Tell the process that a run's results are not wanted."""
        if number in self._runs and self._lost is None:
            self._send(frames.Cancel(number))

    def _command(self) -> list[str]:
        spec = self.spec
        command = [sys.executable, "-m", "gpu_worker.devices.child", "--backend", spec.backend]
        command += ["--ordinal", str(spec.ordinal), "--engine", self._engine]
        if spec.threads is not None:
            command += ["--threads", str(spec.threads)]
        return command

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _send(self, message: frames.ToDevice) -> None:
        if self._lost is not None:
            raise DeviceLost(self._lost)
        self._to_device.send_nowait(frames.encode(message))

    # ── the tasks around the process ─────────────────────────────────────────

    async def _write(self, process: trio.Process) -> None:
        assert process.stdin is not None
        try:
            async for frame in self._queue:
                await process.stdin.send_all(frame)
        except trio.BrokenResourceError:
            pass  # its end is noticed by whoever reads

    async def _log(self, process: trio.Process) -> None:
        """Pass on what the process writes for people."""
        assert process.stderr is not None
        rest = b""
        async for data in process.stderr:
            *lines, rest = (rest + data[:_READ_BYTES]).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").strip()
                if text:
                    self._words.append(text)
                    log.info("device", device=self.spec.name, text=text)

    async def _watch(self) -> None:
        """End a process that has work and brings nothing for too long."""
        while True:
            due = self._last_news + self._patience if self._runs else trio.current_time()
            await trio.sleep(max(self._patience / 10, due - trio.current_time()))
            if self._runs and trio.current_time() - self._last_news >= self._patience:
                self._lost = f"it brought no result for {self._patience:.0f} seconds"
                assert self._process is not None
                self._process.kill()

    async def _read(self, process: trio.Process, task_status: trio.TaskStatus[None]) -> str | None:
        """Take messages to the end of the process; returns why it refused, if it did."""
        assert process.stdout is not None
        splitter = frames.Splitter(frames.from_device)
        ready = False
        while True:
            with trio.move_on_after(float("inf") if ready else _START_SECONDS) as waiting:
                data = await process.stdout.receive_some(_READ_BYTES)
            if waiting.cancelled_caught:
                self._lost = f"it was not ready within {_START_SECONDS:.0f} seconds"
                process.kill()
                ready = True
                continue
            if not data:
                with trio.move_on_after(_GOODBYE_SECONDS):
                    await process.wait()
                self._lost = self._lost or self._epitaph(process.returncode)
                return None
            try:
                messages = splitter.feed(bytes(data))
            except msgspec.DecodeError as error:
                self._lost = f"it said what makes no sense: {error}"
                process.kill()
                return None
            for message in messages:
                match message:
                    case frames.Refused():
                        return str(message.words)
                    case frames.Ready():
                        self.kind, self.memory = message.kind[:256], message.memory
                        self.telemetry.pci = message.pci
                        ready = True
                        task_status.started()
                    case _:
                        self._take(message)

    def _epitaph(self, status: int | None) -> str:
        if status is not None and status < 0:
            words = f"its process was ended by {signal.Signals(-status).name}"
        else:
            words = f"its process ended with status {status}"
        return ": ".join((words, *list(self._words)[-1:]))

    def _take(self, message: frames.FromDevice) -> None:
        self._last_news = trio.current_time()
        match message:
            case frames.Loaded() | frames.LoadFailed():
                waiter = self._loads.get(message.engine)
                if waiter is not None:
                    waiter.settle(
                        _error(message) if isinstance(message, frames.LoadFailed) else None
                    )
                elif isinstance(message, frames.Loaded):
                    self.unload(message.engine)  # nobody waits for it any more
            case frames.Lost():
                self._lost = message.words
            case frames.Begun():
                self.telemetry.idle_seconds["handover"] += message.handover
                self.telemetry.idle_seconds["no_share"] += message.no_share
                if message.run in self._runs:
                    self._runs[message.run].begun()
            case frames.Part():
                if message.run in self._runs:
                    values = np.frombuffer(message.values, message.dtype).reshape(message.shape)
                    chunk = Chunk(message.first_row, values, message.failed)
                    self._runs[message.run].put(Computed(chunk, message.seconds))
            case frames.Finished() | frames.Failed():
                if isinstance(message, frames.Finished):
                    for stage, seconds in message.stages.items():
                        self.telemetry.stage_seconds[stage] += seconds
                run = self._runs.pop(message.run, None)
                if run is not None:
                    run.put(_error(message) if isinstance(message, frames.Failed) else None)

    def _lose(self, why: str) -> None:
        """Wake everybody who waits for the device."""
        self._lost = why
        for run in self._runs.values():
            run.put(DeviceLost(why))
        self._runs.clear()
        for waiter in self._loads.values():
            waiter.settle(DeviceLost(why))


class _Waiter:
    def __init__(self) -> None:
        self._done = trio.Event()
        self._error: EngineError | None = None

    def settle(self, error: EngineError | None) -> None:
        self._error = self._error or error
        self._done.set()

    async def wait(self) -> None:
        await self._done.wait()
        if self._error is not None:
            raise self._error


class _ProcessRun(Run):
    def __init__(self, device: DeviceProcess, number: int, begun: Callable[[], None]) -> None:
        self.number = number
        self.begun = begun
        self._device = device
        self._news: deque[Computed | EngineError | None] = deque()
        self._rung = trio.Event()

    def put(self, news: Computed | EngineError | None) -> None:
        """Something came of it; None and an error are the last."""
        self._news.append(news)
        self._rung.set()

    async def next(self) -> Computed | None:
        """See ``Run.next``."""
        while not self._news:
            self._rung = trio.Event()
            await self._rung.wait()
        news = self._news[0]
        if isinstance(news, Computed):
            return self._news.popleft()  # type: ignore[return-value]
        if news is not None:
            raise news
        return None

    def cancel(self) -> None:
        """See ``Run.cancel``."""
        self._news.clear()
        self.put(None)
        self._device.cancel(self.number)


def _error(message: frames.LoadFailed | frames.Failed) -> EngineError:
    return OutOfMemory(message.words) if message.memory else EngineError(message.words)


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    return np.ascontiguousarray(array, "<u4").view(np.uint8).data


async def _end(process: trio.Process) -> None:
    """Make sure that the process is gone and leaves no zombie, whatever happened."""
    with trio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()
        with trio.move_on_after(_GOODBYE_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                await stream.aclose()

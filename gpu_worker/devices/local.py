"""A device in the rig's own process: the engine's steps run on threads of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import trio

from gpu_worker.devices.base import Computed, Device, Rows, Run
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.devices.processor import physical_memory, processor_kind
from gpu_worker.devices.stages import StageClock
from gpu_worker.engine import Chunk, Engine
from gpu_worker.telemetry import DeviceTelemetry

Offload = Callable[..., Awaitable[Any]]
"""``await offload(function, *args)`` runs a function that may take long, off the event loop."""


class EngineFactory(Protocol):
    """Loads an engine, as ``gpu_worker.engine.load_engine`` does. Raises ``EngineError``."""

    def __call__(
        self,
        manifest: dict[str, Any],
        files: Mapping[str, Path],
        *,
        backend: str,
        threads: int | None,
    ) -> Engine:
        """Return an engine for the manifest, from files that were verified."""


class _Loaded:
    """An engine and how many runs use it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.runs = 0
        self.unwanted = False

    def close_if_over(self) -> None:
        if self.unwanted and self.runs == 0:
            self.engine.close()


class LocalDevice(Device):
    """Computes on this process's threads, through ``offload``; one run at a time."""

    depth = 1

    def __init__(
        self,
        spec: DeviceSpec,
        telemetry: DeviceTelemetry,
        factory: EngineFactory,
        offload: Offload,
    ) -> None:
        super().__init__(spec, telemetry)
        self.kind = processor_kind(spec.threads)
        self.memory = physical_memory()
        self._factory = factory
        self._offload = offload
        self._engines: dict[int, _Loaded] = {}
        self._last_engine = 0
        self._ended: float | None = None  # when the last run was over
        self._stages = StageClock()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See ``Device.serve``. A process that computes other bits has refused to start."""
        task_status.started()
        await trio.sleep_forever()

    async def load(self, manifest: Mapping[str, Any], files: Mapping[str, Path]) -> int:
        """See ``Device.load``."""

        def load() -> Engine:
            spec = self.spec
            return self._factory(dict(manifest), files, backend=spec.backend, threads=spec.threads)

        engine = await self._offload(load)
        self._last_engine += 1
        self._engines[self._last_engine] = _Loaded(engine)
        return self._last_engine

    def unload(self, engine: int) -> None:
        """See ``Device.unload``."""
        loaded = self._engines.pop(engine)
        loaded.unwanted = True
        self._stages.forget(loaded.engine)
        loaded.close_if_over()

    def begin(self, rows: Rows, begun: Callable[[], None]) -> Run:
        """See ``Device.begin``. Rows are begun at once: nothing waits in this device."""
        now = trio.current_time()
        if self._ended is not None:
            self.telemetry.idle_seconds["no_share"] += now - self._ended
        begun()
        return _LocalRun(self, rows, self._engines[rows.engine], now)

    def ended(self, loaded: _Loaded) -> None:
        """A run is over."""
        self._ended = trio.current_time()
        for stage, seconds in self._stages.since(loaded.engine).items():
            self.telemetry.stage_seconds[stage] += seconds

    async def offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step of an engine off the event loop."""
        return await self._offload(function, *arguments)


class _LocalRun(Run):
    def __init__(self, device: LocalDevice, rows: Rows, loaded: _Loaded, came: float) -> None:
        self._device = device
        self._rows = rows
        self._loaded = loaded
        self._came = came
        self._chunks: Iterator[Chunk] | None = None
        self._left = len(rows.lengths)
        self._cancelled = self._over = False
        loaded.runs += 1

    async def next(self) -> Computed | None:
        """See ``Run.next``."""
        computed = None
        try:
            if not self._cancelled:
                computed = await self._next()
        except BaseException:
            # A thread that was left behind may still be in it, so it is not closed.
            self._end()
            raise
        if computed is None:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
            self._end()
        return computed

    def cancel(self) -> None:
        """See ``Run.cancel``. A chunk in work is computed to its end, and left out."""
        self._cancelled = True

    async def _next(self) -> Computed | None:
        rows, offload = self._rows, self._device.offload
        started = trio.current_time()
        if self._chunks is None:
            self._device.telemetry.idle_seconds["handover"] += started - self._came
            self._chunks = iter(
                await offload(
                    self._loaded.engine.run,
                    rows.operation,
                    rows.lengths,
                    rows.tokens,
                    rows.rows_per_chunk,
                )
            )
            started = trio.current_time()
        if self._cancelled or self._left == 0:
            return None
        chunk = await offload(next, self._chunks, None)
        if chunk is None or self._cancelled:
            return None
        self._left -= min(self._left, len(chunk.values))
        return Computed(chunk, trio.current_time() - started)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._loaded.runs -= 1
            self._device.ended(self._loaded)
            self._loaded.close_if_over()

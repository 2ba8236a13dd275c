"""Measuring devices: rows and tokens a second, where the time goes, what the energy is."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import trio
from numpy.typing import NDArray

from gpu_worker.devices.base import Device, Rows
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.devices.opening import held
from gpu_worker.engine import quantise
from gpu_worker.nvml import open_nvml
from gpu_worker.samplemodel import write_sample_model
from gpu_worker.sensors import Sensors

_ROWS_PER_CHUNK: Final = 256
_LONGEST_ROW: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one device did. ``stages`` {stage: seconds}; empty where the engine does not tell.

    ``joules_per_1000_tokens`` is None where no sensor tells.
    """

    device: str
    kind: str
    numerics: str
    rows: int
    tokens: int
    seconds: float
    rows_per_second: float
    tokens_per_second: float
    stages: dict[str, float]
    joules_per_1000_tokens: float | None


@dataclass(frozen=True, slots=True)
class Workload:
    """Rows to compute: ``lengths`` uint32 [rows], ``tokens`` uint32 [sum(lengths)]."""

    lengths: NDArray[np.uint32]
    tokens: NDArray[np.uint32]

    @classmethod
    def random(
        cls,
        rows: int,
        *,
        max_tokens: int,
        vocabulary: int,
        length: int | None = None,
        seed: int = 1,
    ) -> Workload:
        """Random ids; lengths as of paragraphs, the longest first as in a share, or all the same.

        Raises ``ValueError`` when ``length`` is more than the model takes.
        """
        if length is not None and length > max_tokens:
            raise ValueError(f"rows of {length} tokens: this model takes at most {max_tokens}")
        rng = np.random.Generator(np.random.PCG64(seed))
        if length is None:
            drawn = rng.lognormal(4.2, 0.6, rows)
            lengths = np.clip(drawn, 3, min(max_tokens, _LONGEST_ROW)).astype(np.uint32)
        else:
            lengths = np.full(rows, length, np.uint32)
        lengths = np.sort(lengths)[::-1].copy()
        total = int(lengths.sum(dtype=np.uint64))
        return cls(lengths, rng.integers(0, vocabulary, total, np.uint32))


def prepare(
    folder: Path | None, out: Path, numerics: str
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Quantise a checkpoint, or a random one, into the empty folder ``out``.

    Returns the manifest's fields and {name: path} of the files. Raises ``EngineError`` for a
    model that is not supported.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="inferpool-sample-") as place:
            manifest = quantise(write_sample_model(Path(place)), out, numerics=numerics)
    else:
        manifest = quantise(folder, out, numerics=numerics)
    return manifest, {path.name: path for path in sorted(out.iterdir())}


@asynccontextmanager
async def holding(specs: Sequence[DeviceSpec]) -> AsyncIterator[list[Device]]:
    """Serve several devices at once. Raises a group of ``DeviceRefused`` or ``DeviceLost``."""
    async with trio.open_nursery() as nursery:
        devices: dict[int, Device] = {}
        over = trio.Event()

        async def hold(spec: DeviceSpec, *, task_status: trio.TaskStatus[None]) -> None:
            async with held(spec) as device:
                devices[spec.index] = device
                task_status.started()
                await over.wait()

        for spec in specs:
            await nursery.start(hold, spec)
        yield [devices[spec.index] for spec in specs]
        over.set()


async def measure(
    devices: Sequence[Device],
    manifest: Mapping[str, Any],
    files: Mapping[str, Path],
    workload: Workload,
    *,
    seconds: float,
) -> list[Measurement]:
    """Compute the workload on all devices at once, again and again for ``seconds`` at least.

    The first pass, which brings memory and caches into place, is not counted. Raises
    ``EngineError``, alone or in a group.
    """
    nvml = await trio.to_thread.run_sync(open_nvml)
    found: dict[int, Measurement] = {}

    async def one(device: Device) -> None:
        sensors = None if nvml is None else Sensors(nvml, [device.telemetry])
        found[device.spec.index] = await _measure_one(
            device, manifest, files, workload, seconds, sensors
        )

    try:
        async with trio.open_nursery() as nursery:
            for device in devices:
                nursery.start_soon(one, device)
    finally:
        if nvml is not None:
            nvml.close()
    return [found[device.spec.index] for device in devices]


async def _measure_one(
    device: Device,
    manifest: Mapping[str, Any],
    files: Mapping[str, Path],
    workload: Workload,
    seconds: float,
    sensors: Sensors | None,
) -> Measurement:
    engine = await device.load(manifest, files)
    operation = manifest["operations"][0]
    try:
        await _compute(device, engine, operation, workload)
        telemetry = device.telemetry
        stages = dict(telemetry.stage_seconds)
        joules = telemetry.energy_joules
        passes = 0
        async with trio.open_nursery() as nursery:
            if sensors is not None:
                await sensors.read()
                joules = telemetry.energy_joules
                nursery.start_soon(sensors.watch)
            began = trio.current_time()
            while passes == 0 or trio.current_time() - began < seconds:
                await _compute(device, engine, operation, workload)
                passes += 1
            took = trio.current_time() - began
            nursery.cancel_scope.cancel()
        if sensors is not None:
            await sensors.read()
    finally:
        device.unload(engine)
    rows, tokens = passes * len(workload.lengths), passes * len(workload.tokens)
    joules = telemetry.energy_joules - joules
    return Measurement(
        device=device.spec.name,
        kind=device.kind,
        numerics=manifest["numerics"],
        rows=rows,
        tokens=tokens,
        seconds=took,
        rows_per_second=rows / took,
        tokens_per_second=tokens / took,
        stages={
            stage: total - stages.get(stage, 0.0)
            for stage, total in telemetry.stage_seconds.items()
        },
        joules_per_1000_tokens=1e3 * joules / tokens if joules > 0 else None,
    )


async def _compute(device: Device, engine: int, operation: str, workload: Workload) -> None:
    run = device.begin(
        Rows(engine, operation, workload.lengths, workload.tokens, _ROWS_PER_CHUNK), _nothing
    )
    while await run.next() is not None:
        pass


def _nothing() -> None:
    pass

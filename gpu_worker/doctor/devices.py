"""Checks of each device by itself: its golden vectors where it computes, and how fast it is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

from gpu_worker.bench import Workload, measure, prepare
from gpu_worker.devices.base import Device
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.devices.opening import held
from gpu_worker.doctor.findings import Finding, failure, ok
from gpu_worker.engine import SUPPORTED_NUMERICS, EngineError
from gpu_worker.grouped import first_of

_ROWS = {"cupy": 2048}
_ROWS_OF_OTHERS = 16
"""Few enough for a slow processor, enough for a fast GPU."""


async def check_device(spec: DeviceSpec, *, seconds: float) -> list[Finding]:
    """Start a device as a rig does, and compute on it for ``seconds``, not at all if that is 0."""
    findings: list[Finding] = []
    try:
        async with held(spec) as device:
            if spec.backend == "cupy":
                # Its process computed them before it was ready.
                findings.append(
                    ok(
                        f"golden vectors: {spec.name}",
                        "every operation and tiny model gives the same bits",
                    )
                )
            if seconds > 0:
                findings.append(await _benchmark(device, seconds))
    except* EngineError as group:
        findings.append(
            failure(
                f"device {spec.name}",
                str(first_of(group)),
                "stop overclocking, look at the driver's and the kernel's logs, or leave the "
                "device out with --devices",
            )
        )
    return findings


async def _benchmark(device: Device, seconds: float) -> Finding:
    with tempfile.TemporaryDirectory(prefix="inferpool-doctor-") as place:
        manifest, files = await trio.to_thread.run_sync(
            prepare, None, Path(place), SUPPORTED_NUMERICS[0]
        )
        workload = Workload.random(
            _ROWS.get(device.spec.backend, _ROWS_OF_OTHERS),
            max_tokens=manifest["max_tokens"],
            vocabulary=manifest["vocabulary"],
        )
        [one] = await measure([device], manifest, files, workload, seconds=seconds)
    return ok(
        f"speed: {one.device}",
        f"{one.rows_per_second:,.1f} rows/s, {one.tokens_per_second:,.0f} tokens/s with a "
        f"MiniLM-sized model in {one.numerics}",
    )

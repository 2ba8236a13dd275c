"""From a spec to a device: in this process or in one of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from gpu_worker.devices.base import Device
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.devices.local import EngineFactory, LocalDevice, Offload
from gpu_worker.devices.process import DeviceProcess
from gpu_worker.engine import load_engine
from gpu_worker.telemetry import DeviceTelemetry

in_thread: Offload = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
"""Runs a step of an engine in a thread; one that is cancelled is left behind."""


def make_device(
    spec: DeviceSpec,
    telemetry: DeviceTelemetry,
    *,
    factory: EngineFactory = load_engine,
    offload: Offload = in_thread,
) -> Device:
    """Return a device, not yet serving.

    ``factory`` loads engines and ``offload`` runs their steps where it is in this process.
    """
    if spec.isolated:
        return DeviceProcess(spec, telemetry)
    return LocalDevice(spec, telemetry, factory, offload)


@asynccontextmanager
async def held(spec: DeviceSpec) -> AsyncIterator[Device]:
    """Serve a device for as long as the block lasts.

    Raises a group of ``DeviceRefused`` or ``DeviceLost``.
    """
    device = make_device(spec, DeviceTelemetry(spec.name))
    async with trio.open_nursery() as nursery:
        await nursery.start(device.serve)
        device.telemetry.kind = device.kind
        yield device
        nursery.cancel_scope.cancel()

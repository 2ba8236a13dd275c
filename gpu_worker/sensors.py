"""Reading the sensors of a rig's GPUs now and then, beside everything else."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from gpu_worker.nvml import GpuReading, Nvml
from gpu_worker.telemetry import DeviceTelemetry

_INTERVAL = 1.0


class Sensors:
    """Carries readings into the devices' telemetry; energy is counted from the first one on."""

    def __init__(self, nvml: Nvml, devices: Sequence[DeviceTelemetry]) -> None:
        self._nvml = nvml
        self._devices = devices
        self._counters: dict[str, float] = {}  # {PCI bus id: the counter when read last, joules}
        self._read_at: dict[str, float] = {}  # {PCI bus id: when power was read last}

    async def watch(self) -> None:
        """Read every second until cancelled."""
        while True:
            await self.read()
            await trio.sleep(_INTERVAL)

    async def read(self) -> None:
        """Read every device's sensors once."""
        for device in self._devices:
            if device.pci:
                # A driver can take its time; the event loop must not wait for it.
                reading = await trio.to_thread.run_sync(self._nvml.read, device.pci)
                self.take(device, reading, trio.current_time())

    def take(self, device: DeviceTelemetry, reading: GpuReading, now: float) -> None:
        """Write a reading down. Where no counter tells the energy, power times time does."""
        device.power_watts = reading.power
        device.temperature = reading.temperature
        device.memory_used = reading.memory_used
        device.memory_total = reading.memory_total
        device.utilisation = reading.utilisation
        device.throttled = reading.throttled
        before, self._read_at[device.pci] = self._read_at.get(device.pci), now
        if reading.energy is not None:
            # A counter that fell was reset with the driver: what it shows came since.
            last = self._counters.get(device.pci, reading.energy)
            step = reading.energy - last if reading.energy >= last else reading.energy
            device.energy_joules += step
            self._counters[device.pci] = reading.energy
        elif reading.power is not None and before is not None:
            device.energy_joules += reading.power * (now - before)

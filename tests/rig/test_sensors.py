"""Sensors: what NVML tells, what it refuses to tell, and machines without it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gpu_worker.nvml import GpuReading, Nvml, open_nvml
from gpu_worker.sensors import Sensors
from gpu_worker.telemetry import DeviceTelemetry

PCI = "0000:1B:00.0"


class FakeNvml:
    """As pynvml behaves: functions, a constant, and errors of its own for what is not supported."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, **values: Any) -> None:
        self.values = {
            "PowerUsage": 312_500,  # mW
            "TotalEnergyConsumption": 7_200_000,  # mJ
            "MemoryInfo": SimpleNamespace(total=80 << 30, used=3 << 30, free=77 << 30),
            "UtilizationRates": SimpleNamespace(gpu=87, memory=40),
            "Temperature": 61,
            "CurrentClocksThrottleReasons": 0x4,  # its power cap: how a busy one runs
            "Name": b"NVIDIA H200",
            "PciInfo": SimpleNamespace(busId=b"00000000:1B:00.0"),
            **values,
        }
        self.asked: list[Any] = []
        self.initialised = self.shut_down = False

    def nvmlInit(self) -> None:  # noqa: N802
        if "Init" in self.values:
            raise self.NVMLError("driver not loaded")
        self.initialised = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.shut_down = True

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"580.65.06"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"handle {index}"

    def nvmlDeviceGetHandleByPciBusId(self, pci: bytes) -> str:  # noqa: N802
        self.asked.append(pci)
        if pci != PCI.encode():
            raise self.NVMLError("not found")
        return "handle 0"

    def __getattr__(self, name: str) -> Any:
        def read(handle: str, *rest: Any) -> Any:
            assert handle == "handle 0"
            value = self.values[name.removeprefix("nvmlDeviceGet")]
            if value is None:
                raise self.NVMLError("not supported")
            return value

        return read


def test_a_reading_is_in_watts_joules_bytes_and_degrees() -> None:
    """NVML counts in milliwatts, millijoules and percent."""
    assert Nvml(FakeNvml()).read(PCI) == GpuReading(
        power=312.5,
        temperature=61.0,
        energy=7200.0,
        memory_used=3 << 30,
        memory_total=80 << 30,
        utilisation=0.87,
        throttled=False,
    )


@pytest.mark.parametrize(
    ("sensor", "field"),
    [
        ("PowerUsage", "power"),
        ("TotalEnergyConsumption", "energy"),
        ("MemoryInfo", "memory_used"),
        ("UtilizationRates", "utilisation"),
        ("CurrentClocksThrottleReasons", "throttled"),
        ("Temperature", "temperature"),
    ],
)
def test_a_sensor_that_is_missing_leaves_the_others(sensor: str, field: str) -> None:
    """A virtual machine's GPU tells this and not that."""
    reading = Nvml(FakeNvml(**{sensor: None})).read(PCI)

    assert getattr(reading, field) is None
    told = [reading.power, reading.energy, reading.temperature, reading.utilisation]
    assert sum(value is None for value in told) <= 1


def test_a_gpu_that_nvml_does_not_know_has_no_readings() -> None:
    """A GPU passed into a container under another address."""
    assert Nvml(FakeNvml()).read("0000:99:00.0") == GpuReading()


def test_handles_are_looked_up_once() -> None:
    """By the PCI bus id, because CUDA's numbers differ from NVML's."""
    module = FakeNvml()
    nvml = Nvml(module)
    for _ in range(3):
        nvml.read(PCI)

    assert module.asked == [PCI.encode()]


def test_the_driver_and_its_gpus_have_names() -> None:
    """Bytes of old versions and text of new ones alike."""
    nvml = Nvml(FakeNvml(Name="NVIDIA L4"))

    assert nvml.driver == "580.65.06"
    assert nvml.gpus() == {"00000000:1B:00.0": "NVIDIA L4"}


def test_a_machine_without_nvml_has_no_sensors() -> None:
    """Neither the package nor the driver is needed, and nothing is raised."""
    assert open_nvml(FakeNvml(Init=False)) is None


def test_nvml_is_opened_and_closed() -> None:
    """The library is initialised before it is asked, and let go in the end."""
    module = FakeNvml()
    nvml = open_nvml(module)
    assert nvml is not None
    nvml.close()

    assert module.initialised
    assert module.shut_down


def test_energy_is_counted_from_the_first_reading_on() -> None:
    """The counter runs since the driver was loaded; a reset does not count backwards."""
    device = DeviceTelemetry("gpu0", pci=PCI)
    sensors = Sensors(Nvml(FakeNvml()), [device])
    for now, energy in enumerate([1000.0, 1300.0, 1350.0, 20.0, 50.0]):
        sensors.take(device, GpuReading(power=300.0, energy=energy), float(now))

    assert device.energy_joules == 300 + 50 + 20 + 30


def test_without_a_counter_energy_is_power_times_time() -> None:
    """Old cards tell their power only."""
    device = DeviceTelemetry("gpu0", pci=PCI)
    sensors = Sensors(Nvml(FakeNvml()), [device])
    for now in (10.0, 11.0, 13.0):
        sensors.take(device, GpuReading(power=200.0), now)

    assert device.energy_joules == 600.0


async def test_devices_without_a_bus_id_are_not_read() -> None:
    """A processor has no sensors of this kind."""
    module = FakeNvml()
    gpu, cpu = DeviceTelemetry("gpu0", pci=PCI), DeviceTelemetry("cpu")

    await Sensors(Nvml(module), [cpu, gpu]).read()

    assert (cpu.temperature, cpu.power_watts) == (None, None)
    assert (gpu.power_watts, gpu.utilisation, gpu.memory_total) == (312.5, 0.87, 80 << 30)


@pytest.mark.parametrize(
    ("reasons", "slowed"),
    [(0, False), (0x1, False), (0x4, False), (0x8, True), (0x20, True), (0x44, True), (0x84, True)],
)
def test_a_gpu_is_throttled_by_heat_and_power_but_not_by_its_cap(
    reasons: int, slowed: bool
) -> None:
    nvml = Nvml(FakeNvml(CurrentClocksThrottleReasons=reasons))
    assert nvml.read(PCI).throttled is slowed

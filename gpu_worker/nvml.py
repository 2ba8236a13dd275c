"""What NVIDIA's management library says of a GPU: power, temperature, energy, memory, use.

It is optional (``nvidia-ml-py``, with the cuda extras). Whatever it cannot tell is None: virtual
machines, old cards and containers leave out this or that.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What the sensors of one GPU say now.

    ``power`` in watts, ``temperature`` in degrees Celsius, ``energy`` in joules since the driver
    was loaded, memory in bytes, ``utilisation`` from 0 to 1.
    """

    power: float | None = None
    temperature: float | None = None
    energy: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    utilisation: float | None = None
    throttled: bool | None = None


# Why a GPU runs slower than it could: hardware slowdown, heat by software's and by hardware's word,
# power brake. (The power cap, 0x4, is how a busy GPU ordinarily runs.)
_SLOWED = 0x8 | 0x20 | 0x40 | 0x80


class Nvml:
    """Reads sensors through ``module``, which is ``pynvml`` or behaves like it."""

    def __init__(self, module: Any) -> None:
        self._nvml = module
        self._handles: dict[str, Any] = {}  # {PCI bus id: handle}

    @property
    def driver(self) -> str:
        """The driver's version, or "" when it does not say."""
        return str(_text(self._ask(self._nvml.nvmlSystemGetDriverVersion)) or "")

    def gpus(self) -> dict[str, str]:
        """{PCI bus id: name} of the GPUs that the driver knows, also those hidden from CUDA."""
        found = {}
        for index in range(self._ask(self._nvml.nvmlDeviceGetCount) or 0):
            handle = self._ask(self._nvml.nvmlDeviceGetHandleByIndex, index)
            info = self._ask(self._nvml.nvmlDeviceGetPciInfo, handle)
            if info is not None:
                name = _text(self._ask(self._nvml.nvmlDeviceGetName, handle))
                found[str(_text(info.busId))] = str(name or "GPU")
        return found

    def read(self, pci: str) -> GpuReading:
        """What the GPU with this PCI bus id (as CUDA spells it) says now; never raises."""
        nvml = self._nvml
        handle = self._handles.get(pci)
        if handle is None:
            handle = self._ask(nvml.nvmlDeviceGetHandleByPciBusId, pci.encode())
            if handle is None:
                return GpuReading()
            self._handles[pci] = handle
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        energy = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        celsius = self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
        return GpuReading(
            power=None if power is None else power / 1e3,
            temperature=None if celsius is None else float(celsius),
            energy=None if energy is None else energy / 1e3,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            utilisation=None if rates is None else rates.gpu / 100,
            throttled=None if reasons is None else bool(reasons & _SLOWED),
        )

    def close(self) -> None:
        """Let the library go."""
        with suppress(Exception):
            self._nvml.nvmlShutdown()

    @staticmethod
    def _ask(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception:
            # Its errors are classes made at run time; each means that this is not told.
            return None


def open_nvml(module: Any = None) -> Nvml | None:
    """Return the sensors of this machine's GPUs, or None where there are none to be had.

    ``module`` stands in for ``pynvml`` (tests).
    """
    try:
        nvml = importlib.import_module("pynvml") if module is None else module
        nvml.nvmlInit()
    except Exception:
        # Not installed, no driver, no permission: a rig works without.
        return None
    return Nvml(nvml)


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value

"""Which CUDA devices there are, found out by a process of its own.

A rig's own process never imports CuPy: a driver that hangs or crashes costs the probe, and the
memory that a CUDA library takes is taken once for each device only.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from gpu_worker.engine.cuda.available import NO_CUPY

_SECONDS = 120.0  # CuPy's first import on a cold disk takes long


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device. ``pci`` is its bus id, ``capability`` such as ``9.0``, memory in bytes."""

    ordinal: int
    name: str
    memory: int
    pci: str
    capability: str


@dataclass(frozen=True, slots=True)
class GpuProbe:
    """What was found. ``error`` says why CUDA cannot be used, or is empty."""

    error: str = ""
    cupy: str = ""
    driver: int = 0
    """The newest CUDA that the driver can do, as ``12040`` for 12.4."""
    runtime: int = 0
    gpus: tuple[Gpu, ...] = field(default=())


def probe_gpus() -> GpuProbe:
    """Ask in a new process; never raises."""
    if importlib.util.find_spec("cupy") is None:
        return GpuProbe(error=NO_CUPY)
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "gpu_worker.devices.probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return GpuProbe(
            error=f"CUDA did not answer within {_SECONDS:.0f} seconds: the driver may hang; "
            "look at nvidia-smi and the kernel's log"
        )
    except OSError as error:
        return GpuProbe(error=f"the probe could not be started: {error}")
    try:
        return read_answer(answer.stdout)
    except (ValueError, KeyError, TypeError):
        last = answer.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return GpuProbe(
            error=f"the probe ended with status {answer.returncode}: {''.join(last) or 'no words'}"
        )


def read_answer(text: bytes) -> GpuProbe:
    """Parse what the probe's process printed."""
    fields: dict[str, Any] = json.loads(text)
    gpus = tuple(Gpu(**gpu) for gpu in fields.pop("gpus"))
    return GpuProbe(**fields, gpus=gpus)


def look(cupy: Any) -> GpuProbe:
    """Ask the CUDA runtime through the module ``cupy``."""
    runtime = cupy.cuda.runtime
    gpus = []
    for ordinal in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(ordinal)
        name = properties["name"]
        gpus.append(
            Gpu(
                ordinal,
                name.decode() if isinstance(name, bytes) else str(name),
                int(properties["totalGlobalMem"]),
                str(runtime.deviceGetPCIBusId(ordinal)),
                f"{properties['major']}.{properties['minor']}",
            )
        )
    return GpuProbe(
        cupy=str(cupy.__version__),
        driver=int(runtime.driverGetVersion()),
        runtime=int(runtime.runtimeGetVersion()),
        gpus=tuple(gpus),
    )


def main() -> None:
    """Print what there is, as JSON."""
    try:
        import cupy

        found = look(cupy)
    except Exception as error:
        # Whatever CuPy or the driver raises is the answer.
        found = GpuProbe(error=f"{type(error).__name__}: {error}")
    sys.stdout.write(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()

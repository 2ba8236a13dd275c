"""Checks of the GPUs as a whole: driver, CuPy, what CUDA sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gpu_worker.devices.probe import Gpu, GpuProbe
from gpu_worker.doctor.findings import Finding, failure, ok, warning
from gpu_worker.engine.cuda.available import NO_CUPY

_GIB = 1 << 30


def check_gpus(
    probe: GpuProbe, driver: str, known: Mapping[str, str], *, required: bool
) -> Iterator[Finding]:
    """What CUDA and the driver say.

    ``driver`` is its version and ``known`` {PCI bus id: name}, both from NVML and empty without
    it. ``required``: the miner asked for GPUs, so that to have none is a failure.
    """
    lacking = failure if required else warning
    if driver:
        yield ok("driver", f"{driver}, which knows {', '.join(known.values()) or 'no GPU'}")
    if probe.error == NO_CUPY and not known and not required:
        yield ok("cuda", "no GPU and no CuPy: the processor computes")
        return
    if probe.error:
        yield lacking("cuda", probe.error, _remedy(probe, driver))
        return
    yield ok("cuda", f"CuPy {probe.cupy}, CUDA {_dotted(probe.runtime)}")
    if probe.runtime > probe.driver:
        yield lacking(
            "cuda",
            f"the driver can do CUDA {_dotted(probe.driver)}, CuPy is made for "
            f"{_dotted(probe.runtime)}",
            "install a newer driver, or the CuPy of an older CUDA: pip install 'inferpool[cuda12]'",
        )
    if not probe.gpus:
        yield lacking(
            "cuda",
            "CUDA finds no GPU",
            "look at nvidia-smi, and at CUDA_VISIBLE_DEVICES in the environment; in a container "
            "start it with the GPUs passed in",
        )
    for gpu in probe.gpus:
        yield _described(gpu, lacking)


def _described(gpu: Gpu, lacking: Callable[[str, str, str], Finding]) -> Finding:
    text = f"{gpu.name}, {gpu.memory / _GIB:.1f} GiB, compute capability {gpu.capability}"
    major, _, minor = gpu.capability.partition(".")
    if (int(major), int(minor or 0)) < (7, 5):
        return lacking(
            f"gpu{gpu.ordinal}",
            text,
            "it has no integer tensor cores: capability 7.5 (Turing) or later is needed; leave "
            "it out with --devices",
        )
    return ok(f"gpu{gpu.ordinal}", text)


def _remedy(probe: GpuProbe, driver: str) -> str:
    if probe.error == NO_CUPY:
        return "without a GPU: --backend numpy"
    if not driver:
        return "see that nvidia-smi works: the driver may be missing, or not match the kernel"
    return "reinstall CuPy for this driver: pip install --force-reinstall 'inferpool[cuda12]'"


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"

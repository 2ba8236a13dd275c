"""Which devices a rig uses: what ``--backend``, ``--devices`` and ``--threads`` mean together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_CPU = re.compile(r"cpu(?::([1-9][0-9]{0,2}))?")
_ORDINALS = re.compile(r"[0-9]{1,3}(?:,[0-9]{1,3})*")


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device of a rig. ``index`` is its place in the list that the pool is told.

    ``ordinal`` is the CUDA device's number. ``isolated``: it is held by a process of its own, so
    that its death costs no other device anything.
    """

    index: int
    name: str
    backend: str
    ordinal: int = 0
    threads: int | None = None
    isolated: bool = False


def choose_devices(
    backend: str, devices: str | None, threads: int | None, gpus: Callable[[], Sequence[int]]
) -> tuple[DeviceSpec, ...]:
    """Return the devices that the options name; raise ``ValueError`` in words for the miner.

    ``gpus`` lists the ordinals of the CUDA devices here; it is called when they matter only, and
    raises ``ValueError`` itself when they cannot be used. Without ``devices`` the backend
    ``auto`` takes every GPU, or the processor where there is none.
    """
    if devices is None:
        gpus_wanted = backend == "cupy" or (backend == "auto" and _usable(gpus))
        devices = "all" if gpus_wanted else "cpu"
    processors = _CPU.fullmatch(devices)
    if processors is not None:
        if backend == "cupy":
            raise ValueError(
                f"devices {devices!r} are no GPUs: give all or numbers such as 0,2, "
                "or choose the backend numpy"
            )
        return _processors(processors[1], threads)
    if devices != "all" and not _ORDINALS.fullmatch(devices):
        raise ValueError(
            f"devices {devices!r} must be all, GPU numbers such as 0,2, cpu, or cpu:N for N "
            "processes"
        )
    if backend == "numpy":
        raise ValueError(
            f"devices {devices!r} are GPUs, which the backend numpy does not use: give cpu or "
            "cpu:N, or choose the backend cupy"
        )
    return _gpus(devices, gpus(), threads)


def _usable(gpus: Callable[[], Sequence[int]]) -> bool:
    try:
        return bool(gpus())
    except ValueError:
        return False


def _processors(count: str | None, threads: int | None) -> tuple[DeviceSpec, ...]:
    if count is None:
        return (DeviceSpec(0, "cpu", "numpy", threads=threads),)
    number = int(count)
    each = threads or max(1, (os.cpu_count() or 1) // number)
    return tuple(
        DeviceSpec(index, f"cpu{index}", "numpy", threads=each, isolated=True)
        for index in range(number)
    )


def _gpus(devices: str, present: Sequence[int], threads: int | None) -> tuple[DeviceSpec, ...]:
    wanted = list(present) if devices == "all" else [int(part) for part in devices.split(",")]
    wanted = list(dict.fromkeys(wanted))
    for ordinal in wanted:
        if ordinal not in present:
            there = ", ".join(str(number) for number in present) or "none"
            raise ValueError(f"devices: there is no GPU {ordinal}; present: {there}")
    if not wanted:
        raise ValueError(
            "devices: no GPU was found; `inferpool doctor` says why, --backend numpy uses the "
            "processor"
        )
    return tuple(
        DeviceSpec(index, f"gpu{ordinal}", "cupy", ordinal, threads, isolated=True)
        for index, ordinal in enumerate(wanted)
    )

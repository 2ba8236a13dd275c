"""What a rig computes on, as it tells the pool."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from stratum.messages import Device


def local_devices() -> tuple[Device, ...]:
    """The devices of this machine. The engine computes on the CPU, so that is the one."""
    kind = f"{_processor()} x{os.cpu_count() or 1}"
    return (Device(0, kind[:256], _memory()),)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "cpu"


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0

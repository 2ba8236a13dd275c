"""The processor and the memory of this machine, as the pool and the miner are told."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processor_kind(threads: int | None = None) -> str:
    """The processor's name and how many threads compute, in at most 256 characters."""
    return f"{_name()[:240]} x{threads or os.cpu_count() or 1}"


def physical_memory() -> int:
    """Bytes of memory; 0 when the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "cpu"

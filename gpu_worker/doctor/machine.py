"""Checks of the machine: Python, libraries, memory, arithmetic, the cache folder."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from gpu_worker.devices.processor import physical_memory, processor_kind
from gpu_worker.doctor.findings import Finding, failure, ok, warning
from gpu_worker.engine import EngineError, check_canaries, check_golden

_LITTLE_MEMORY = 4 << 30
_LITTLE_DISK = 5 << 30
_GIB = 1 << 30


def check_machine(cache: Path, *, processor: bool) -> Iterator[Finding]:
    """All checks of this machine but its GPUs. ``processor``: whether it is to compute."""
    yield ok(
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"inferpool {version('inferpool')}",
    )
    yield blas(threadpool_info())
    yield numba()
    yield memory(physical_memory())
    yield from arithmetic(processor=processor)
    yield cache_folder(cache)


def blas(libraries: list[dict[str, Any]]) -> Finding:
    """Which BLAS NumPy multiplies with. ``libraries``: as ``threadpool_info`` lists them."""
    found = [library for library in libraries if library.get("user_api") == "blas"]
    text = f"NumPy {np.__version__}"
    if not found:
        return warning(
            "blas",
            f"{text}, its BLAS is not known",
            "pip install --force-reinstall numpy: its own wheel brings OpenBLAS",
        )
    parts = [
        " ".join(
            str(library[key])
            for key in ("internal_api", "version", "architecture")
            if library.get(key)
        )
        for library in found
    ]
    return ok("blas", f"{text} with {', '.join(parts)}")


def numba() -> Finding:
    """Whether the compiled twins of the processor's operations can be used."""
    if importlib.util.find_spec("numba") is None:
        return warning(
            "numba",
            "not installed: the processor computes the same bits, more slowly",
            "pip install 'inferpool[numba]'",
        )
    try:
        return ok("numba", version("numba"))
    except PackageNotFoundError:
        return ok("numba", "installed")


def memory(size: int) -> Finding:
    """Whether there is memory enough for a model or two. ``size``: bytes, 0 when unknown."""
    text = f"{processor_kind()}, {size / _GIB:.1f} GiB of memory"
    if 0 < size < _LITTLE_MEMORY:
        return warning("memory", text, "small models only; larger ones will be refused")
    return ok("memory", text)


def arithmetic(*, processor: bool) -> Iterator[Finding]:
    """Whether this process computes as every other machine does.

    Golden vectors are computed where the processor is to compute; canaries always.
    """
    try:
        check_canaries()
    except EngineError as error:
        yield failure("canaries", str(error), "results of this machine would be rejected")
        return
    yield ok("canaries", "rounding, subnormals and integer products are exact")
    if not processor:
        return
    try:
        check_golden("numpy")
    except EngineError as error:
        yield failure("golden vectors: cpu", str(error), "do not let this machine join a pool")
    else:
        yield ok("golden vectors: cpu", "every operation and tiny model gives the same bits")


def cache_folder(cache: Path) -> Finding:
    """Whether models can be kept in ``cache``, and how many."""
    remedy = "choose another folder with --cache, or mend its permissions"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as probe:
            probe.write(b"inferpool")
        free = shutil.disk_usage(cache).free
    except OSError as error:
        return failure("cache", f"{cache} cannot be written: {error.strerror}", remedy)
    if not os.access(cache, os.R_OK | os.X_OK):
        return failure("cache", f"{cache} cannot be read", remedy)
    text = f"{cache}, {free / _GIB:.1f} GiB free"
    if free < _LITTLE_DISK:
        return warning("cache", text, "free some, or choose another folder with --cache")
    return ok("cache", text)

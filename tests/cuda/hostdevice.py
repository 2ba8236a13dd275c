"""A device that is this machine's processor: the kernels' own sources, compiled with g++."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.cuda.device import Device
from gpu_worker.engine.cuda.source import KERNELS, kernels, module_text

EMULATOR = Path(__file__).with_name("emulator")
HOW_TO_GET_A_COMPILER = "g++ is not installed: apt install g++"
FLAGS = ("-std=c++20", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-U_FORTIFY_SOURCE")
WARNINGS = ("-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-sign-compare", "-Wno-unused-function",
            "-Wno-maybe-uninitialized", "-Wno-unused-variable", "-Wno-unused-but-set-variable",
            "-Wno-unused-parameter", "-Werror")  # fmt: skip
GUARD = 4096
POISON = 0xA5
EMULATING = Lock()
"""The emulator runs one kernel at a time."""


class KernelError(Exception):
    """A kernel broke a rule that a GPU would not always punish."""


def build(text: str, names: Sequence[str], folder: Path, *defines: str) -> ctypes.CDLL:
    """Compile kernels for the host; ``names`` are exported as ``run_NAME``."""
    exports = "".join(
        f'extern "C" const char* run_{name}(const std::uint64_t* slots, unsigned x, unsigned y, '
        f"unsigned threads, unsigned shared, int backward) {{\n"
        f"  return emulator::run([](const std::uint64_t* s) {{ emulator::call({name}, s); }}, "
        f"slots, x, y, threads, shared, backward != 0);\n}}\n"
        for name in names
    )
    whole = f"{(EMULATOR / 'emulator.hpp').read_text()}\n{text}\n{exports}"
    whole = whole.replace("#pragma once\n", "")
    key = hashlib.sha256(repr((whole, FLAGS, defines)).encode()).hexdigest()[:24]
    library = folder / f"{key}.so"
    if not library.exists():
        source = folder / f"{key}.cpp"
        source.write_text(whole)
        made = folder / f"{key}.part"
        subprocess.run(
            ["g++", *FLAGS, *WARNINGS, *(f"-D{name}" for name in defines), "-o", made, source],
            check=True,
        )
        made.rename(library)
    loaded = ctypes.CDLL(str(library))
    for name in names:
        getattr(loaded, f"run_{name}").restype = ctypes.c_char_p
    return loaded


def compiler() -> bool:
    return shutil.which("g++") is not None


@cache
def library(module: str, folder: Path, defines: tuple[str, ...]) -> ctypes.CDLL:
    """A module's kernels for the host."""
    names = [kernel.name for kernel in kernels().values() if kernel.module == module]
    return build(module_text(module, (EMULATOR, KERNELS)), names, folder, *defines)


class HostDevice(Device):
    """Arrays are NumPy's, each between guards that are looked at after every launch.

    What ``empty`` gives is filled with what makes bad floats and integers. ``backward`` turns
    the order in which threads and blocks take their turns.
    """

    def __init__(
        self,
        folder: Path,
        *,
        backward: bool = False,
        shared_bytes: int = 48 * 1024,
        defines: tuple[str, ...] = (),
    ) -> None:
        self.shared_bytes = shared_bytes
        self.launched: list[str] = []
        self._backward = backward
        self._folder = folder
        self._defines = defines
        self._guarded: list[tuple[NDArray[np.uint8], int]] = []

    def put(self, values: NDArray[Any]) -> NDArray[Any]:
        array = self.empty(values.shape, values.dtype)
        array[...] = values
        return array

    upload = put

    def download(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [np.array(array) for array in arrays]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        memory = np.full(size + 2 * GUARD + 16, POISON, np.uint8)
        first = GUARD + -(memory.ctypes.data + GUARD) % 16
        self._guarded.append((memory, first + size))
        self._guarded = self._guarded[-400:]
        return memory[first : first + size].view(kind).reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        array = self.empty(shape, dtype)
        array[...] = 0
        return array

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
        shared_bytes: int = 0,
    ) -> None:
        if shared_bytes > self.shared_bytes or threads % 32 or threads > 1024:
            raise KernelError(f"{kernel}: {threads} threads, {shared_bytes} bytes")
        own = kernels()[kernel]
        slots = np.zeros(len(own.parameters), np.uint64)
        values = own.arguments(arguments)
        for place, (parameter, value) in enumerate(zip(own.parameters, values, strict=True)):
            if parameter.array and isinstance(value, np.ndarray):
                if value.ctypes.data % parameter.dtype.itemsize:
                    raise KernelError(f"{kernel}: {parameter.name} is not aligned")
                slots[place] = value.ctypes.data
            else:
                raw = value.tobytes()
                slots[place] = int.from_bytes(raw + bytes(8 - len(raw)), "little")
        self.launched.append(kernel)
        run = getattr(library(own.module, self._folder, self._defines), f"run_{kernel}")
        with EMULATING:
            words = run(
                slots.ctypes.data_as(ctypes.c_void_p), *grid, threads, shared_bytes, self._backward
            )
        if words is not None:
            raise KernelError(f"{kernel}: {words.decode()}")
        self._check_guards(kernel)

    def product(self, x: NDArray[Any], w: NDArray[Any], out: NDArray[Any], *, add: bool) -> None:
        rules = [*x.shape, *w.shape, x.strides[0], w.strides[0]]
        if any(size % 16 for size in rules) or x.strides[1] != 1 or w.strides[1] != 1:
            raise KernelError(f"product of {x.shape}, {w.shape}")
        # float64 sums of these are exact
        total = np.matmul(x.astype(np.float64), w.astype(np.float64).T)
        if add:
            total += out
        if np.abs(total).max() >= 2**31:
            raise KernelError("an int32 sum overflows")
        out[...] = total.astype(np.int32)

    def mark(self) -> float:
        return time.perf_counter()

    def seconds(self, first: float, last: float) -> float:
        return last - first

    def free_bytes(self) -> int:
        return 1 << 30

    def trim(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def _check_guards(self, kernel: str) -> None:
        for memory, end in self._guarded:
            if (memory[:GUARD] != POISON).any() or (memory[end:] != POISON).any():
                raise KernelError(f"{kernel} wrote outside an array")


MakeDevice = Callable[..., HostDevice]

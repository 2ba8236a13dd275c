"""CuPy as far as CupyDevice calls it, on the host: memory is NumPy's, kernels are emulated.

Signatures and conventions are those of CuPy 14 and of cuBLAS, so that a wrong order of
arguments, a wrong leading dimension or a copy past the end of a buffer shows without a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from hostdevice import EMULATING, library

from gpu_worker.engine.cuda.source import OPTIONS, kernels, module_text

INT8, INT32, COMPUTE_32I, DEFAULT, OP_N, OP_T = 3, 10, 72, -1, 0, 1
HANDLE = 4711


class CudaError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class CUDARuntimeError(CudaError):
    pass


class CUDADriverError(CudaError):
    pass


class CUBLASError(CudaError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class CompileException(Exception):  # noqa: N818 - CuPy's name
    pass


class Pointer:
    """``array.data``."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.ptr = array.ctypes.data
        self._array = array

    def copy_from_host_async(self, mem: int, size: int, stream: Stream) -> None:
        assert size == self._array.nbytes
        ctypes.memmove(self.ptr, mem, size)

    def copy_to_host_async(self, mem: int, size: int, stream: Stream) -> None:
        assert size == self._array.nbytes
        ctypes.memmove(mem, self.ptr, size)

    def memset_async(self, value: int, size: int, stream: Stream) -> None:
        assert size == self._array.nbytes
        ctypes.memset(self.ptr, value, size)


class Array(np.ndarray[Any, Any]):
    """What ``cupy.empty`` gives."""

    @property
    def data(self) -> Pointer:  # type: ignore[override]
        assert self.flags.c_contiguous or self.ndim == 2
        return Pointer(self)

    def set(self, values: np.ndarray[Any, Any]) -> None:
        assert values.dtype == self.dtype
        assert values.shape == self.shape
        self[...] = values


class Stream:
    def __init__(self, non_blocking: bool) -> None:
        self.used = False

    def use(self) -> None:
        self.used = True

    def synchronize(self) -> None:
        pass


class Event:
    def __init__(self, disable_timing: bool = False) -> None:
        self.timed = not disable_timing
        self.recorded = False

    def record(self, stream: Stream) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        pass


class Module:
    """Machine code is a module's name here."""

    folder = Path()

    def load(self, machine_code: bytes) -> None:
        self._name = machine_code.decode()

    def get_function(self, kernel: str) -> Callable[..., None]:
        run = getattr(library(self._name, self.folder, ()), f"run_{kernel}")
        own = kernels()[kernel]

        def call(
            grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int
        ) -> None:
            slots = np.zeros(len(args), np.uint64)
            for place, (parameter, value) in enumerate(zip(own.parameters, args, strict=True)):
                if isinstance(value, Array):
                    assert parameter.array
                    slots[place] = value.data.ptr
                else:
                    # CuPy passes a scalar in its own width; None would be no argument at all.
                    assert isinstance(value, np.generic)
                    raw = value.tobytes()
                    assert len(raw) == (8 if parameter.array else parameter.dtype.itemsize)
                    slots[place] = int.from_bytes(raw + bytes(8 - len(raw)), "little")
            assert len(grid) == 2
            assert len(block) == 1
            with EMULATING:
                words = run(slots.ctypes.data_as(ctypes.c_void_p), *grid, *block, shared_mem, 0)
            assert words is None, words

        return call


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    memory = np.full(size + 512, 0xA5, np.uint8)  # kernels may read a little past nothing of it
    first = -memory.ctypes.data % 256
    return memory[first : first + size].view(kind).reshape(shape).view(Array)


def compile_using_nvrtc(source: str, options: tuple[str, ...]) -> tuple[bytes, None]:
    assert options == OPTIONS
    for module in {kernel.module for kernel in kernels().values()}:
        if source == module_text(module):
            return module.encode(), None
    raise CompileException("what is this?")


def matrix(pointer: int, kind: Any, rows: int, columns: int, leading: int) -> Any:
    """A view of columns-first memory [rows, columns]."""
    dtype = np.dtype(kind)
    size = (leading * (columns - 1) + rows) * dtype.itemsize
    memory = np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype)
    return np.lib.stride_tricks.as_strided(
        memory, (rows, columns), (dtype.itemsize, leading * dtype.itemsize), writeable=True
    )


def gemm_ex(
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int,
    a_type: int, lda: int, b: int, b_type: int, ldb: int, beta: int, c: int, c_type: int,
    ldc: int, compute_type: int, algo: int,
) -> None:  # fmt: skip
    """C = alpha · op(A) · op(B) + beta · C, columns first."""
    assert handle == HANDLE
    assert (transa, transb) == (OP_T, OP_N)
    assert (a_type, b_type, c_type) == (INT8, INT8, INT32)
    assert (compute_type, algo) == (COMPUTE_32I, DEFAULT)
    assert not any(size % 16 for size in (m, n, k, lda, ldb, ldc))
    assert a % 16 == b % 16 == c % 16 == 0
    factors = [ctypes.c_int.from_address(place).value for place in (alpha, beta)]
    left = matrix(a, np.int8, k, m, lda).T.astype(np.int64)
    right = matrix(b, np.int8, k, n, ldb).astype(np.int64)
    out = matrix(c, np.int32, m, n, ldc)
    out[...] = factors[0] * (left @ right) + (factors[1] * out if factors[1] else 0)


def modules(folder: Path) -> dict[str, ModuleType]:
    """{name: module} for ``sys.modules``."""
    Module.folder = folder

    def device(ordinal: int) -> SimpleNamespace:
        return SimpleNamespace(use=lambda: None, compute_capability="75" if ordinal == 0 else "70")

    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: 2,
        memGetInfo=lambda: (1 << 30, 1 << 31),
    )
    cublas = SimpleNamespace(
        CUBLASError=CUBLASError, CUBLAS_OP_T=OP_T, CUBLAS_OP_N=OP_N,
        CUBLAS_COMPUTE_32I=COMPUTE_32I, CUBLAS_GEMM_DEFAULT=DEFAULT, gemmEx=gemm_ex,
    )  # fmt: skip
    pool = SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)
    made: dict[str, dict[str, Any]] = {
        "cupy": {
            "empty": empty,
            "ascontiguousarray": lambda array: array,
            "get_default_memory_pool": lambda: pool,
        },
        "cupy.cuda": {
            "cublas": cublas,
            "driver": SimpleNamespace(CUDADriverError=CUDADriverError),
            "runtime": runtime,
            "memory": SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            "device": SimpleNamespace(get_cublas_handle=lambda: HANDLE),
            "Device": device,
            "Stream": Stream,
            "Event": Event,
            "get_elapsed_time": lambda first, last: 1.5 * (first.timed and last.timed),
        },
        "cupy.cuda.compiler": {
            "CompileException": CompileException,
            "compile_using_nvrtc": compile_using_nvrtc,
        },
        "cupy.cuda.function": {"Module": Module},
        "cupyx": {"empty_pinned": np.empty},
    }
    found = {}
    for name, contents in made.items():
        found[name] = ModuleType(name)
        vars(found[name]).update(contents)
    found["cupy"].cuda = found["cupy.cuda"]  # type: ignore[attr-defined]
    return found

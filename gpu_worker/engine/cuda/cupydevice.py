"""A CUDA device by way of CuPy: the only module that imports it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock, local
from typing import Any, Final

import cupy
import cupyx
import numpy as np
from cupy.cuda import cublas, driver, runtime
from cupy.cuda.compiler import CompileException, compile_using_nvrtc
from cupy.cuda.function import Module

from gpu_worker.engine.cuda.device import Array, Device, Host
from gpu_worker.engine.cuda.source import OPTIONS, kernels, module_text
from gpu_worker.engine.errors import DeviceLost, EngineError, OutOfMemory

LEAST_CAPABILITY: Final = 75
"""The first with int8 tensor cores (Turing)."""

_LACKS_MEMORY: Final = 2  # cudaErrorMemoryAllocation, CUDA_ERROR_OUT_OF_MEMORY
_CUBLAS_LACKS_MEMORY: Final = 3  # CUBLAS_STATUS_ALLOC_FAILED
# Errors of a call that leave the device as it was; every other one stays until the process ends.
_OF_THE_CALL: Final = frozenset({1, 9, 98, 200, 209, 500, 701})
_INT8: Final = 3  # CUDA_R_8I
_INT32: Final = 10  # CUDA_R_32I, which CuPy has no name for
_compiling = Lock()
_own = local()


def device_count() -> int:
    """How many CUDA devices there are.

    Raises ``EngineError`` that says why they cannot be used.
    """
    try:
        return int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        raise EngineError(
            f"CUDA does not work here ({error}): install NVIDIA's driver, from 525 on for "
            "inferpool[cuda12] and from 580 on for inferpool[cuda13]"
        ) from error


def check_device(ordinal: int) -> None:
    """Raise ``EngineError`` if this device cannot compute the exact lane."""
    count = device_count()
    if not 0 <= ordinal < count:
        raise EngineError(f"there is no CUDA device {ordinal}: this machine has {count}, from 0")
    capability = cupy.cuda.Device(ordinal).compute_capability
    if int(capability) < LEAST_CAPABILITY:
        raise EngineError(
            f"CUDA device {ordinal} has compute capability {capability[:-1]}.{capability[-1:]}; "
            "integer tensor cores begin with 7.5 (Turing)"
        )


@contextmanager
def translated() -> Iterator[None]:
    """CuPy's exceptions as the engine's."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise OutOfMemory(f"the device's memory is full: {error}") from None
    except (runtime.CUDARuntimeError, driver.CUDADriverError) as error:
        if error.status == _LACKS_MEMORY:
            raise OutOfMemory(f"the device's memory is full: {error}") from None
        if error.status in _OF_THE_CALL:
            raise EngineError(f"CUDA refused a call: {error}; please report it") from error
        raise DeviceLost(f"the device does not work any more: {error}") from error
    except cublas.CUBLASError as error:
        if error.status == _CUBLAS_LACKS_MEMORY:
            raise OutOfMemory(f"the device's memory is full: {error}") from None
        raise DeviceLost(f"a product failed on the device: {error}") from error
    except CompileException as error:
        raise EngineError(
            f"the kernels do not compile with this CUDA ({error}); install CuPy with its own "
            "toolkit: pip install 'inferpool[cuda12]'"
        ) from error


class CupyDevice(Device):
    """A CUDA device, for the thread that makes it. A thread's devices share its stream."""

    shared_bytes = 48 * 1024
    """What every device gives a block without being asked for more."""

    def __init__(self, ordinal: int) -> None:
        check_device(ordinal)
        with translated():
            self._ordinal = ordinal
            self._stream = _own_stream(ordinal)
            self._pool = cupy.get_default_memory_pool()
            self._uploaded = cupy.cuda.Event(disable_timing=True)
            self._pinned: dict[str, Host] = {}  # {what for: bytes}
            self._zero, self._one = np.zeros(1, np.int32), np.ones(1, np.int32)

    def put(self, values: Host) -> Array:
        """See ``Device.put``."""
        with translated():
            array = cupy.empty(values.shape, values.dtype)
            array.set(np.ascontiguousarray(values))
            self._stream.synchronize()
            return array

    def upload(self, values: Host) -> Array:
        """See ``Device.upload``."""
        with translated():
            # The last upload may still read the buffer.
            self._uploaded.synchronize()
            pinned = self._buffer("up", values.nbytes)
            pinned[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            array = cupy.empty(values.shape, values.dtype)
            array.data.copy_from_host_async(pinned.ctypes.data, values.nbytes, self._stream)
            self._uploaded.record(self._stream)
            return array

    def download(self, arrays: Sequence[Array]) -> list[Host]:
        """See ``Device.download``."""
        with translated():
            pinned = self._buffer("down", sum(array.nbytes for array in arrays))
            places = []
            first = 0
            for array in arrays:
                own = pinned[first : first + array.nbytes]
                first += array.nbytes
                places.append(own)
                whole = cupy.ascontiguousarray(array)
                whole.data.copy_to_host_async(own.ctypes.data, array.nbytes, self._stream)
            self._stream.synchronize()
            return [
                own.copy().view(array.dtype).reshape(array.shape)
                for own, array in zip(places, arrays, strict=True)
            ]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """See ``Device.empty``."""
        with translated():
            return cupy.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """See ``Device.zeros``."""
        with translated():
            array = cupy.empty(shape, dtype)
            array.data.memset_async(0, array.nbytes, self._stream)
            return array

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
        shared_bytes: int = 0,
    ) -> None:
        """See ``Device.launch``."""
        if 0 in grid:
            return
        given = tuple(kernels()[kernel].arguments(arguments))
        with translated():
            _function(self._ordinal, kernel)(grid, (threads,), given, shared_mem=shared_bytes)

    def product(self, x: Array, w: Array, out: Array, *, add: bool) -> None:
        """See ``Device.product``.

        In the library's columns-first view the operands are wᵀ and x, and the result is outᵀ.
        """
        (rows, depth), columns = x.shape, w.shape[0]
        beta = self._one if add else self._zero
        with translated():
            cublas.gemmEx(
                cupy.cuda.device.get_cublas_handle(),
                cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, columns, rows, depth,
                self._one.ctypes.data,
                w.data.ptr, _INT8, w.strides[0],
                x.data.ptr, _INT8, x.strides[0],
                beta.ctypes.data,
                out.data.ptr, _INT32, columns,
                cublas.CUBLAS_COMPUTE_32I, cublas.CUBLAS_GEMM_DEFAULT,
            )  # fmt: skip

    def mark(self) -> Any:
        """See ``Device.mark``."""
        with translated():
            event = cupy.cuda.Event()
            event.record(self._stream)
            return event

    def seconds(self, first: Any, last: Any) -> float:
        """See ``Device.seconds``."""
        with translated():
            return float(cupy.cuda.get_elapsed_time(first, last)) / 1e3

    def free_bytes(self) -> int:
        """See ``Device.free_bytes``."""
        with translated():
            return int(runtime.memGetInfo()[0]) + int(self._pool.free_bytes())

    def trim(self) -> None:
        """See ``Device.trim``."""
        with translated():
            self._stream.synchronize()
            self._pool.free_all_blocks()

    def synchronize(self) -> None:
        """See ``Device.synchronize``."""
        with translated():
            self._stream.synchronize()

    def _buffer(self, use: str, size: int) -> Host:
        """``size`` bytes of pinned memory, the same ones for each use."""
        pinned = self._pinned.get(use)
        if pinned is None or pinned.size < size:
            pinned = self._pinned[use] = cupyx.empty_pinned(
                max(size + size // 4, 1 << 16), np.uint8
            )
        return pinned[:size]


def _own_stream(ordinal: int) -> Any:
    """This thread's stream on a device, both made current for what CuPy does in this thread.

    One for all: memory and launches follow the current stream, copies and marks the device's.
    """
    streams: dict[int, Any] = vars(_own).setdefault("streams", {})
    cupy.cuda.Device(ordinal).use()
    if ordinal not in streams:
        streams[ordinal] = cupy.cuda.Stream(non_blocking=True)
    streams[ordinal].use()
    return streams[ordinal]


@cache
def _module(ordinal: int, name: str) -> Any:
    """A module's machine code, loaded on the current device.

    Not by ``cupy.RawModule``, which adds ``-ftz=true`` to whatever it is given: subnormals would
    become zeros and results other bits.
    """
    machine_code, _ = compile_using_nvrtc(module_text(name), OPTIONS)
    module = Module()
    module.load(machine_code)
    return module


@cache
def _loaded(ordinal: int, kernel: str) -> Any:
    return _module(ordinal, kernels()[kernel].module).get_function(kernel)


def _function(ordinal: int, kernel: str) -> Any:
    with _compiling:
        return _loaded(ordinal, kernel)

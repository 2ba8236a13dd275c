"""Which implementation of the operations computes: the one place that chooses."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.numerics import EXACT, Exact, check_numerics
from gpu_worker.engine.ops import Ops

BACKENDS: Final = ("auto", "numpy", "cupy")


def resolve(backend: str, device: int = 0, numerics: str = "exact16") -> str:
    """The backend that ``auto`` stands for on this machine; others as they are.

    ``auto`` is ``cupy`` where CUDA device ``device`` can be used for this numerics. Raises
    ``EngineError`` for a backend that is not known or cannot work here, with the remedy.
    """
    if backend not in BACKENDS:
        raise EngineError(f"backend {backend!r} is not supported; supported: {', '.join(BACKENDS)}")
    if backend == "numpy" or (backend == "auto" and numerics not in EXACT):
        return "numpy"
    from gpu_worker.engine.cuda.available import check_available

    try:
        check_available(device)
    except EngineError:
        if backend == "cupy":
            raise
        return "numpy"
    return "cupy"


def make_backend(backend: str, numerics: str, device: int = 0) -> Callable[[], Ops]:
    """What makes the operations of one thread. ``backend`` is one that ``resolve`` gives."""
    exact = EXACT.get(check_numerics(numerics))
    if backend == "cupy":
        return _on_cuda(exact, numerics, device)
    if exact is None:
        if numba_is_used():
            from gpu_worker.engine.ops_float_numba import NumbaFloatOps

            return NumbaFloatOps
        from gpu_worker.engine.ops_float import FloatOps

        return FloatOps
    if numba_is_used():
        from gpu_worker.engine.ops_numba import NumbaOps

        return lambda: NumbaOps(exact)
    from gpu_worker.engine.ops_numpy import NumpyOps

    return lambda: NumpyOps(exact)


def _on_cuda(exact: Exact | None, numerics: str, device: int) -> Callable[[], Ops]:
    if exact is None:
        raise EngineError(
            f"numerics {numerics!r} is not computed on CUDA devices; use the backend numpy, or a "
            f"model registered in one of {', '.join(EXACT)}"
        )
    from gpu_worker.engine.cuda.cupydevice import CupyDevice
    from gpu_worker.engine.cuda.ops import CudaOps

    return lambda: CudaOps(exact, CupyDevice(device))


def numba_is_used() -> bool:
    """Whether numba is installed and not switched off by ``INFERPOOL_NUMBA=0``."""
    return os.environ.get("INFERPOOL_NUMBA", "1") != "0" and find_spec("numba") is not None

"""Which implementation of the operations computes: the one place that chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.numerics import EXACT, check_numerics
from gpu_worker.engine.ops import Ops

BACKENDS: Final = ("auto", "numpy")


def resolve(backend: str, device: int = 0) -> str:
    """The backend that ``auto`` stands for on this machine; others as they are.

    Raises ``EngineError`` for one that is not known or cannot work here.
    """
    if backend not in BACKENDS:
        raise EngineError(
            f"backend {backend!r} is not supported: this version computes on the CPU; "
            f"supported: {', '.join(BACKENDS)}"
        )
    return "numpy"


def make_backend(backend: str, numerics: str, device: int = 0) -> Callable[[], Ops]:
    """What makes the operations of one thread. ``backend`` is one that ``resolve`` gives."""
    from gpu_worker.engine.ops_numpy import NumpyOps

    exact = EXACT[check_numerics(numerics)]
    return lambda: NumpyOps(exact)

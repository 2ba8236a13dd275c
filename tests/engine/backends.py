"""The backends that must give the bits of the specification: {name: (numerics) -> operations}."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from gpu_worker.engine.numerics import Exact
from gpu_worker.engine.ops import Ops
from gpu_worker.engine.ops_numpy import NumpyOps

BACKENDS: dict[str, Callable[[Exact], Ops]] = {"numpy": NumpyOps}
if find_spec("numba") is not None:
    from gpu_worker.engine.ops_numba import NumbaOps

    BACKENDS["numba"] = NumbaOps

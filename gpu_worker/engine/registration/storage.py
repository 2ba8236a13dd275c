"""How a dense layer's weights are stored in a numerics: integers and scales, or floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.numerics import EXACT
from gpu_worker.engine.ops import quantise_rows

F32 = NDArray[np.float32]
U32 = NDArray[np.uint32]


def store_dense(name: str, weight: F32, bias: F32, numerics: str) -> dict[str, NDArray[Any]]:
    """The tensors of one dense layer: ``weight`` is [out, in], ``bias`` [out].

    Exact numerics quantise each output channel (``docs/EXACT.md``, section 3); float numerics
    round each weight once. bfloat16 is stored as its bits (uint16).
    """
    exact = EXACT.get(numerics)
    if exact is None:
        return {f"{name}.weight": _round(name, weight, numerics), f"{name}.bias": bias}
    values, scale, _ = quantise_rows(weight, exact.weights)
    return {
        f"{name}.weight": values.astype(exact.weight_dtype),
        f"{name}.scale": scale,
        f"{name}.bias": bias,
    }


def _round(name: str, weight: F32, numerics: str) -> NDArray[Any]:
    if numerics == "bfloat16":
        return round_bfloat16(weight)
    if numerics == "float32":
        return weight
    with np.errstate(over="ignore"):  # found in the next line
        half = weight.astype("<f2")
    if not np.isfinite(half).all():
        raise EngineError(f"{name}.weight holds values beyond float16; use bfloat16 or float32")
    return half


def round_bfloat16(values: F32) -> NDArray[np.uint16]:
    """The upper halves of finite float32 numbers, rounded to nearest, ties to even."""
    bits: U32 = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)

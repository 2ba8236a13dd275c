"""Our own transcendental functions: fixed polynomials over correctly rounded float32 operations.

Every operation below rounds to float32 on its own; nothing is fused, and the order of the
operations is part of the definition (``docs/EXACT.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def _constants(*texts: str) -> tuple[np.float32, ...]:
    return tuple(np.float32(float.fromhex(text)) for text in texts)


EXP2: Final = _constants(
    "0x1.000000p+0",
    "0x1.62e430p-1",
    "0x1.ebfbdcp-3",
    "0x1.c6aee8p-5",
    "0x1.3b2d4cp-7",
    "0x1.5f3e54p-10",
    "0x1.41fbbcp-13",
)
"""2^f on [-0.5, 0.5], lowest power first; relative error at most 1.03e-7 as computed."""

EXP2_LOWEST: Final = np.float32(-64)
"""Arguments of 2^z below this count as this."""

NORMAL_CLAMP: Final = np.float32(float.fromhex("0x1.59999ap+2"))
"""5.4: beyond it the normal distribution function is 0 or 1 exactly."""

NORMAL_TOP: Final = _constants(
    "0x1.988450p-2",
    "0x1.116298p-5",
    "0x1.30cc54p-8",
    "0x1.589b7ap-13",
    "0x1.aad06cp-18",
    "0x1.91c836p-26",
)
NORMAL_BOTTOM: Final = _constants(
    "0x1.000000p+0",
    "0x1.005350p-2",
    "0x1.d0f4cep-6",
    "0x1.e75218p-10",
    "0x1.2fab1cp-14",
    "0x1.4693a6p-20",
)
"""erf(u/√2)/2 = u · TOP(u²) / BOTTOM(u²) on [-5.4, 5.4]; absolute error at most 1.9e-7."""

TANH_CLAMP: Final = np.float32(9)
"""Beyond it the hyperbolic tangent is -1 or 1 exactly."""

TANH_TOP: Final = _constants(
    "0x1.000000p+0",
    "0x1.20c48ep-3",
    "0x1.22208cp-8",
    "0x1.62d798p-15",
    "0x1.de279cp-24",
    "0x1.440aeep-35",
)
TANH_BOTTOM: Final = _constants(
    "0x1.000000p+0",
    "0x1.e5b79cp-2",
    "0x1.de7d88p-6",
    "0x1.06afa6p-11",
    "0x1.5dd102p-19",
    "0x1.966262p-29",
)
"""tanh(u) = u · TOP(u²) / BOTTOM(u²) on [-9, 9]; absolute and relative error at most 3.5e-7."""

GELU_TANH_LINEAR: Final = np.float32(float.fromhex("0x1.988454p-1"))
"""√(2/π)"""
GELU_TANH_CUBIC: Final = np.float32(float.fromhex("0x1.2444f2p-5"))
"""√(2/π) · 0.044715"""

HALF: Final = np.float32(0.5)
ONE: Final = np.float32(1)


def horner(coefficients: Sequence[np.float32], x: F32) -> F32:
    """Evaluate from the highest power down: multiply, round, add, round."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def exp2(z: F32) -> F32:
    """2^z for z ≤ 0; below -64 the result is 2^-64. float32 in, float32 out, any shape."""
    z = np.maximum(z, EXP2_LOWEST)
    whole = np.rint(z)
    fraction = z - whole  # exact
    power = ((whole.astype(np.int32) + 127) << 23).view(np.float32)
    return horner(EXP2, fraction) * power  # exact: a power of two


def gelu(x: F32) -> F32:
    """x · Φ(x) with Φ the normal distribution function. float32 in, float32 out, any shape."""
    u = np.minimum(np.maximum(x, -NORMAL_CLAMP), NORMAL_CLAMP)
    t = u * u
    return x * (HALF + (u * horner(NORMAL_TOP, t)) / horner(NORMAL_BOTTOM, t))


def tanh(x: F32) -> F32:
    """The hyperbolic tangent. float32 in, float32 out, any shape."""
    u = np.minimum(np.maximum(x, -TANH_CLAMP), TANH_CLAMP)
    t = u * u
    return clamp_one((u * horner(TANH_TOP, t)) / horner(TANH_BOTTOM, t))


def clamp_one(x: F32) -> F32:
    """x within [-1, 1]: rounding may carry a quotient one step beyond."""
    return np.minimum(np.maximum(x, -ONE), ONE)


def gelu_tanh(x: F32) -> F32:
    """GELU by its tanh formula: x · ½(1 + tanh(√(2/π)(x + 0.044715x³)))."""
    inner = tanh(x * (GELU_TANH_LINEAR + GELU_TANH_CUBIC * (x * x)))
    return x * (HALF + HALF * inner)


def relu(x: F32) -> F32:
    """max(x, +0): a negative zero becomes +0. NaN stays NaN."""
    return np.maximum(x, np.float32(0)) + np.float32(0)


ACTIVATIONS: Final[dict[str, Callable[[F32], F32]]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": relu,
    "tanh": tanh,
}
"""What may stand between two dense layers, by its name in a manifest."""

"""Checks that this processor, this thread and this BLAS compute as the exact lane needs.

Another library in the process can switch a thread to flush-to-zero or to another rounding, and
a BLAS may trade exactness for speed. Either would make honest rows look false, so the engine
refuses to work with them.
"""

from __future__ import annotations

from functools import cache
from threading import Thread
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.numerics import LIMIT8, LIMIT16, LIMIT_PROBABILITY

# (rows, depth, columns): one tile, an odd shape, and one that is large enough to tempt a BLAS
# into a fast algorithm that is not exact.
_SHAPES: Final = ((1, 1024, 1), (37, 513, 29), (128, 1024, 160))


def check_canaries() -> None:
    """Check the BLAS, and the floating-point unit in this thread and in a new one.

    Raises ``EngineError`` with the reason.
    """
    check_float_unit()
    refused: list[EngineError] = []

    def in_thread() -> None:
        try:
            check_float_unit()
        except EngineError as error:
            refused.append(error)

    thread = Thread(target=in_thread)
    thread.start()
    thread.join()
    if refused:
        raise EngineError(f"in a worker thread: {refused[0]}")
    check_blas()


def check_float_unit() -> None:
    """Check rounding, subnormals and conversions of the calling thread, in microseconds."""
    with np.errstate(all="ignore"):
        # Bits are compared: a comparison of floats would take a subnormal for zero as well.
        normal = np.full(16, 2.0**-126, np.float32)
        if ((normal * np.float32(0.5)).view(np.uint32) != 0x00400000).any():
            raise _refusal("flush-to-zero is on")
        subnormal = np.full(16, 0x00400000, np.uint32).view(np.float32)
        if ((subnormal * np.float32(2.0**24)).view(np.uint32) != 0x0C000000).any():
            raise _refusal("denormals-are-zero is on")
        one = np.array([1, 1, 1, -1, -1, -1, 1, -1], np.float32)
        step = np.array([1, 1.5, 3, -1, -1.5, -3, 0.5, -0.5], np.float32) * np.float32(2.0**-24)
        wanted = np.array([0, 2, 4, 0, -2, -4, 0, 0]) * 2.0**-24 + one
        if ((one + step).astype(np.float64) != wanted).any():
            raise _refusal("float32 does not round to nearest, ties to even")
        wide = one.astype(np.float64) + step.astype(np.float64)
        if (wide.astype(np.float32).astype(np.float64) != wanted).any():
            raise _refusal("float64 does not convert to float32 by rounding to nearest")
        if ((one.astype(np.float64) + step * 2.0**-29) - one != (wanted - one) * 2.0**-29).any():
            raise _refusal("float64 does not round to nearest, ties to even")
        thirds = np.full(16, 1, np.float32) / np.full(16, 3, np.float32)
        roots = np.sqrt(np.full(16, 2, np.float32))
        if (thirds.view(np.uint32) != 0x3EAAAAAB).any() or (
            roots.view(np.uint32) != 0x3FB504F3
        ).any():
            raise _refusal("division or square root is not correctly rounded")
        halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5, 4.5], np.float32)
        if (np.rint(halves) != np.array([0, 2, 2, 0, -2, -2, 4, 4])).any():
            raise _refusal("rint does not round ties to even")


@cache
def check_blas() -> None:
    """Multiply integers at the bounds and compare exactly; ``EngineError`` if one is wrong.

    A pass is remembered for the life of the process.
    """
    rng = np.random.Generator(np.random.PCG64(20_240_501))
    for rows, depth, columns in _SHAPES:
        signs = rng.integers(0, 2, (rows, depth)) * 2 - 1
        near = signs - (np.arange(depth) & 1)
        for carrier, top, other in (
            (np.float64, LIMIT16, LIMIT16),
            (np.float64, LIMIT_PROBABILITY, LIMIT16),
            (np.float32, LIMIT8, LIMIT8 + 1),
        ):
            largest = np.full((rows, depth), top)
            opposite = np.full((depth, columns), -other)
            _check_product(largest, opposite, np.dtype(carrier))
            mixed = rng.integers(-other, other + 1, (depth, columns))
            _check_product(signs * (top - 1) + near, mixed, np.dtype(carrier))


def _check_product(
    left: NDArray[np.int64], right: NDArray[np.int64], carrier: np.dtype[np.floating]
) -> None:
    a, b = left.astype(carrier), right.astype(carrier)
    turned = np.ascontiguousarray(b.T)
    # A wrong entry shows in a product with random digits, in int64: a hundred times cheaper
    # than computing every entry again.
    digits = np.random.Generator(np.random.PCG64(7)).integers(1, 16, (right.shape[1], 2))
    wanted = np.matmul(left, np.matmul(right, digits))  # exact: int64
    products = (
        np.matmul(a, b),  # exact: what is tested here
        np.matmul(a, turned.T),  # exact: what is tested here
        np.matmul(turned, a.T).T,  # exact: what is tested here
    )
    for product in products:
        if (np.matmul(product.astype(np.int64), digits) != wanted).any():  # exact: int64
            raise EngineError(
                f"this machine's BLAS does not multiply {carrier.name} integers exactly; "
                "use a NumPy with OpenBLAS, or switch off reduced-precision or fast products"
            )


def _refusal(what: str) -> EngineError:
    return EngineError(
        f"{what} in this thread, so results would differ from other machines'; "
        "find the library in this process that changes the floating-point mode"
    )

"""Integers as int8 slices: how each numerics cuts them, and which products give their sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.numerics import LIMIT8, LIMIT13, LIMIT16, Exact

STEP: Final = 64
"""Depths and outputs are padded to multiples of this with zeros; the kernels rely on it."""
ROW_STEP: Final = 16
"""Rows of operands are padded to multiples of this: what int8 products of libraries want."""
DEPTH: Final = 65_536
"""Depth up to which every int32 sum is exact: 2·127·128·65,536 < 2^31. Deeper ones are cut."""


@dataclass(frozen=True, slots=True)
class Slicing:
    """How an integer q is cut.

    ``number`` is its name in the kernels: 0 is q itself, 1 is q = 256·high + low with low in
    -128..127, 2 is q = 127·high + low with low in ±63 (and high + low in ±126).
    """

    number: int
    limit: int
    planes: int
    """Slices that the fused products read: high and low, or q."""


ONE: Final = Slicing(0, LIMIT8, 1)
BASE127: Final = Slicing(2, LIMIT13, 2)
BASE256: Final = Slicing(1, LIMIT16, 2)
SLICINGS: Final = {slicing.limit: slicing for slicing in (ONE, BASE127, BASE256)}


@dataclass(frozen=True, slots=True)
class Product:
    """How a dense layer's integer comes of int8 products.

    ``sums`` lists, for each int32 sum, its coefficient and the pairs of planes (of the input, of
    the weight) whose products it adds. Plane 2 is high + low, which the straight path stores.
    """

    fused: str
    """The kernel that does all of it."""
    x: Slicing
    w: Slicing
    sums: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]

    @property
    def planes(self) -> tuple[int, int]:
        """Planes of input and weight that the straight path reads."""
        pairs = [pair for _, some in self.sums for pair in some]
        return max(x for x, _ in pairs) + 1, max(w for _, w in pairs) + 1

    @property
    def coefficients(self) -> tuple[int, int, int]:
        """Those of the sums, with zeros for what is missing of three."""
        first, second, third = [*(sum_[0] for sum_ in self.sums), 0, 0][:3]
        return first, second, third


PRODUCTS: Final = {
    (LIMIT16, LIMIT16): Product(
        "fused_16_16",
        BASE256,
        BASE256,
        ((65536, ((0, 0),)), (256, ((0, 1), (1, 0))), (1, ((1, 1),))),
    ),
    # Karatsuba: 127²·hh + 127·(ss - hh - ll) + ll with ss the product of the sums.
    (LIMIT13, LIMIT13): Product(
        "fused_13_13",
        BASE127,
        BASE127,
        ((127 * 127 - 127, ((0, 0),)), (1 - 127, ((1, 1),)), (127, ((2, 2),))),
    ),
    (LIMIT16, LIMIT8): Product("fused_16_8", BASE256, ONE, ((256, ((0, 0),)), (1, ((1, 0),)))),
    (LIMIT8, LIMIT8): Product("fused_8_8", ONE, ONE, ((1, ((0, 0),)),)),
}
"""{(limit of inputs, limit of weights): their product}."""


def product_of(numerics: Exact) -> Product:
    """The product of a numerics' dense layers."""
    return PRODUCTS[numerics.activations, numerics.weights]


def padded(size: int, step: int) -> int:
    """The next multiple of ``step``."""
    return -(-size // step) * step


def sliced(
    values: NDArray[Any], slicing: Slicing, planes: int, rows: int, depth: int
) -> NDArray[np.int8]:
    """Integers [out, in] as int8 [planes, rows, depth], zeros where there are none."""
    whole = np.zeros((rows, depth), np.int32)
    whole[: values.shape[0], : values.shape[1]] = values
    if slicing is ONE:
        return whole[None].astype(np.int8)
    if slicing is BASE256:
        high = (whole + 128) >> 8
        low = whole - 256 * high
    else:
        high = (whole + 63) // 127
        low = whole - 127 * high
    return np.stack([high, low, high + low][:planes]).astype(np.int8)


def joined(slices: NDArray[np.int8], slicing: Slicing) -> NDArray[np.int64]:
    """The integers of slices [planes, rows, depth]."""
    wide = slices.astype(np.int64)
    whole: NDArray[np.int64] = wide[0]
    if slicing is not ONE:
        whole = whole * (256 if slicing is BASE256 else 127) + wide[1]
    return whole

"""The numerics that a model may be registered in: how wide the integers of its products are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gpu_worker.engine.errors import EngineError

LIMIT16: Final = 32639
"""127·256 + 127: both balanced signed 8-bit slices of ±32639 stay in int8."""
LIMIT13: Final = 8127
"""64·127 - 1: balanced digits to the base 127, whose sum stays in int8 (Karatsuba)."""
LIMIT8: Final = 127
LIMIT_PROBABILITY: Final = 8355711
"""127·65536 + 127·256 + 127: three balanced signed 8-bit slices."""


@dataclass(frozen=True, slots=True)
class Exact:
    """An exact numerics: the limits of a dense layer's input and of its weights."""

    name: str
    activations: int
    weights: int

    @property
    def weight_dtype(self) -> str:
        """How weights are stored, in NumPy's spelling."""
        return "int8" if self.weights <= LIMIT8 else "int16"


EXACT: Final = {
    numerics.name: numerics
    for numerics in (
        Exact("exact16", LIMIT16, LIMIT16),
        Exact("exact13", LIMIT13, LIMIT13),
        Exact("exact8w", LIMIT16, LIMIT8),
        Exact("exact8", LIMIT8, LIMIT8),
    )
}
"""Results are the same bits everywhere. Queries, keys and values are 16 bits wide in each."""

FLOAT: Final = ("float32", "float16", "bfloat16")
"""Results agree within a model's tolerance only."""

SUPPORTED: Final = (*EXACT, *FLOAT)


def check_numerics(name: str) -> str:
    """Return ``name`` if it is supported; ``EngineError`` lists what is otherwise."""
    if name not in SUPPORTED:
        raise EngineError(f"numerics {name!r} is not supported; supported: {', '.join(SUPPORTED)}")
    return name

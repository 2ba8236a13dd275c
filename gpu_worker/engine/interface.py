"""What an engine looks like from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that naming these types does not load NumPy
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Chunk:
    """Results of consecutive rows.

    ``values`` is [rows, width] in the engine's dtype and belongs to the caller. ``failed`` holds
    the positions within the chunk of rows without a finite result; their values are zero bytes.
    """

    first_row: int
    values: NDArray[Any]
    failed: tuple[int, ...]


class Engine(ABC):
    """Computes rows of one model. A row's bits depend on the model, the operation and the row."""

    width: int
    """Values of one row's result."""
    dtype: str
    """Their type in NumPy's spelling, little-endian."""

    @abstractmethod
    def run(
        self,
        operation: str,
        lengths: NDArray[np.uint32],
        tokens: NDArray[np.uint32],
        rows_per_chunk: int,
    ) -> Iterator[Chunk]:
        """Compute rows, in order.

        ``lengths`` is uint32 [rows]; ``tokens`` is uint32 [sum of lengths], row after row. Every
        chunk but the last has ``rows_per_chunk`` rows. Closing the iterator stops the work soon.
        Raises ``EngineError`` at the call, not at the first chunk, for input it cannot take.
        """

    def stages(self) -> dict[str, float]:
        """Where the time went so far: {stage: seconds}, all threads together.

        Stages are the engine's own; nothing is told by one that does not measure.
        """
        return {}

    @abstractmethod
    def close(self) -> None:
        """Free threads and memory. The engine cannot run afterwards."""

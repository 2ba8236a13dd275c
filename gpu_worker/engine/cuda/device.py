"""What the operations need of a device: memory, launches, integer products, a clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Array = Any
"""An array on the device. It has ``shape``, ``dtype``, ``reshape`` and slices as NumPy's do."""
Host = NDArray[Any]


class Device(ABC):
    """One thread's way to a device; what it starts is done in order.

    Every method raises ``OutOfMemory`` where memory lacks, and ``DeviceLost`` once the device
    does not work any more.
    """

    shared_bytes: int
    """Shared memory that a block may take."""

    @abstractmethod
    def put(self, values: Host) -> Array:
        """A copy on the device, there when this returns: for models."""

    @abstractmethod
    def upload(self, values: Host) -> Array:
        """A copy on the device, once what comes after needs it: for rows.

        ``values`` may change as soon as this returns.
        """

    @abstractmethod
    def download(self, arrays: Sequence[Array]) -> list[Host]:
        """Copies in memory of the host, once all that was started is done."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of anything."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of zeros."""

    @abstractmethod
    def launch(
        self,
        kernel: str,
        grid: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
        shared_bytes: int = 0,
    ) -> None:
        """Start a kernel of ``source.kernels()``; nothing is started for an empty grid."""

    @abstractmethod
    def product(self, x: Array, w: Array, out: Array, *, add: bool) -> None:
        """out = x · wᵀ, or out += x · wᵀ: int8 [m, k] and [n, k] to int32 [m, n].

        All three sizes are multiples of 16; rows are contiguous but may lie apart. Sums stay
        within int32.
        """

    @abstractmethod
    def mark(self) -> Any:
        """A point in what was started so far."""

    @abstractmethod
    def seconds(self, first: Any, last: Any) -> float:
        """The time between two marks that have passed."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Memory that can still be had."""

    @abstractmethod
    def trim(self) -> None:
        """Give back memory that is held but not used."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all that was started is done."""

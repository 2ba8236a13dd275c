"""What a device looks like to the rest of the rig, wherever it computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trio
from numpy.typing import NDArray

from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.engine import Chunk, EngineError
from gpu_worker.telemetry import DeviceTelemetry


class DeviceRefused(EngineError):  # noqa: N818 - named for what happened
    """The device would compute other bits, or cannot compute at all; to start it again is vain."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows for a device: ``lengths`` uint32 [rows], ``tokens`` uint32 [sum(lengths)].

    ``engine`` is what ``Device.load`` returned. Every chunk but the last has ``rows_per_chunk``
    rows.
    """

    engine: int
    operation: str
    lengths: NDArray[np.uint32]
    tokens: NDArray[np.uint32]
    rows_per_chunk: int


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """A chunk, and the seconds that the device took for it."""

    chunk: Chunk
    seconds: float


class Run(ABC):
    """Rows on their way through a device."""

    @abstractmethod
    async def next(self) -> Computed | None:
        """The next chunk, in order; None after the last, and after ``cancel``.

        Raises ``EngineError`` (``DeviceLost`` when the device is gone), or whatever else the
        engine raised.
        """

    @abstractmethod
    def cancel(self) -> None:
        """The results are no longer wanted: stop after the chunk in work."""


class Device(ABC):
    """Loads engines and computes rows with them, one run after the other."""

    depth: int
    """Runs that may be open at once: those beyond the first wait in the device."""
    kind: str
    """Its name for people, such as ``NVIDIA H200``; known once it serves."""
    memory: int
    """Bytes; 0 when unknown."""

    def __init__(self, spec: DeviceSpec, telemetry: DeviceTelemetry) -> None:
        self.spec = spec
        self.telemetry = telemetry

    @abstractmethod
    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the device until cancelled; it is usable from ``task_status.started()`` on.

        Raises ``DeviceRefused`` before that, and ``DeviceLost`` at any time.
        """

    @abstractmethod
    async def load(self, manifest: Mapping[str, Any], files: Mapping[str, Path]) -> int:
        """Load an engine; returns its number. Raises as ``load_engine`` does, or ``DeviceLost``."""

    @abstractmethod
    def unload(self, engine: int) -> None:
        """Free an engine once no run uses it."""

    @abstractmethod
    def begin(self, rows: Rows, begun: Callable[[], None]) -> Run:
        """Queue rows. ``begun`` is called when the device turns to them.

        Raises ``DeviceLost`` at once when the device is gone.
        """

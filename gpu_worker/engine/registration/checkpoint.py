"""The float tensors of a checkpoint: one safetensors file, or several with an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.registration.settings import read_settings
from gpu_worker.engine.tensors import TensorFile

F32 = NDArray[np.float32]

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_SMALLEST: Final = np.float32(2.0**-100)
"""Weights below this in magnitude become zero: sums of larger ones are never subnormal."""
_LARGEST: Final = np.float32(2.0**64)
_OLD_NAMES: Final = {".weight": ".gamma", ".bias": ".beta"}
"""What converted TensorFlow checkpoints call the parameters of a layer norm."""


class Checkpoint:
    """Tensors by their names. ``EngineError`` names what is missing or out of range."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, TensorFile] = {}  # {tensor name: its file}
        for path in _paths(folder):
            file = TensorFile(path)
            self._files |= dict.fromkeys(file.names(), file)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str, shape: tuple[int, ...]) -> F32:
        """float32 of ``shape``; values below 2^-100 in magnitude come as zero."""
        file = self._files.get(name)
        if file is None:
            raise EngineError(f"{SINGLE} has no tensor {name}, which config.json asks for")
        found = file.describe(name)[1]
        if found != shape:
            raise EngineError(f"{name} is {list(found)}, not {list(shape)} as config.json asks for")
        array = file.as_float32(name)
        magnitude = np.abs(array)
        if not (magnitude < _LARGEST).all():
            raise EngineError(f"{name} holds values that are not finite or not below 2^64")
        return np.where(magnitude < _SMALLEST, np.float32(0), array)

    def read_norm(self, name: str, size: int) -> F32:
        """A norm's ``….weight`` or ``….bias`` [size], which may bear its old name."""
        stem, dot, part = name.rpartition(".")
        old = stem + _OLD_NAMES[dot + part]
        return self.read(name if name in self or old not in self else old, (size,))


def _paths(folder: Path) -> list[Path]:
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if not (folder / INDEX).exists():
        raise EngineError(
            f"{folder} has no {SINGLE} and no {INDEX}; save the model in the safetensors format"
        )
    places: Any = read_settings(folder / INDEX).table("weight_map").values()
    names = sorted({str(place) for place in places})
    for name in names:
        if Path(name).name != name or not (folder / name).exists():
            raise EngineError(f"{INDEX} names {name}, which is not in {folder}")
    if not names:
        raise EngineError(f"{INDEX} has an empty weight_map")
    return [folder / name for name in names]

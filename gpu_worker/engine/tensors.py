"""Reading and writing safetensors files: mapped into memory to read, the same bytes every time.

The format: 8 bytes little-endian length of a JSON header; the header names each tensor's dtype,
shape and place; the data follow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.errors import EngineError

Array = NDArray[Any]

_DTYPES: Final = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # the bits; see as_float32
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES: Final = {"<f4": "F32", "<f2": "F16", "<u2": "BF16", "<i2": "I16", "|i1": "I8"}
_HEADER_LIMIT: Final = 100_000_000


class TensorFile:
    """One safetensors file, mapped into memory, read-only.

    Raises ``EngineError`` for a file that is not one or whose header does not fit its data.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            data = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise EngineError(f"cannot read {path.name}: {error}") from error
        self._entries = _read_header(path.name, data)
        self._data = data[8 + int(data[:8].view("<u8")[0]) :]

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def describe(self, name: str) -> tuple[str, tuple[int, ...]]:
        """A tensor's type, as the format spells it, and its shape."""
        if name not in self._entries:
            raise EngineError(f"{self.path.name} has no tensor {name}")
        return self._entries[name][:2]

    def read(self, name: str) -> Array:
        """A read-only view of one tensor. BF16 comes as its bits (uint16); see ``as_float32``."""
        dtype, shape = self.describe(name)
        begin, end = self._entries[name][2:]
        return self._data[begin:end].view(_DTYPES[dtype]).reshape(shape)

    def as_float32(self, name: str) -> NDArray[np.float32]:
        """A float tensor as float32; F64 is rounded once, the others convert exactly."""
        array = self.read(name)
        dtype = self._entries[name][0]
        if dtype == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        if dtype not in ("F64", "F32", "F16"):
            raise EngineError(f"{self.path.name}: {name} is {dtype}, not a float tensor")
        return array.astype(np.float32)


def _read_header(name: str, data: Array) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    size = int(data.shape[0])
    length = int(data[:8].view("<u8")[0]) if size >= 8 else size
    if length > min(size - 8, _HEADER_LIMIT):
        raise EngineError(f"{name} is not a safetensors file: its header does not fit")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
        header.pop("__metadata__", None)
        entries = {
            key: (
                str(entry["dtype"]),
                tuple(int(n) for n in entry["shape"]),
                int(entry["data_offsets"][0]),
                int(entry["data_offsets"][1]),
            )
            for key, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise EngineError(f"{name} is not a safetensors file: its header is malformed") from error
    for key, (dtype, shape, begin, end) in entries.items():
        if dtype not in _DTYPES:
            raise EngineError(f"{name}: {key} is {dtype}; known are {', '.join(_DTYPES)}")
        wanted = prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        if min(shape, default=0) < 0 or not 0 <= begin <= end <= size - 8 - length:
            raise EngineError(f"{name}: {key} lies outside the file")
        if end - begin != wanted:
            raise EngineError(f"{name}: {key} has {end - begin} bytes where {wanted} fit its shape")
    return entries


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write float32, float16, int16, int8 and, as uint16, bfloat16: widest first, then by name."""
    little = {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        for name, array in tensors.items()
    }
    order = sorted(little, key=lambda name: (-little[name].itemsize, name))
    header: dict[str, dict[str, Any]] = {}
    place = 0
    for name in order:
        array = little[name]
        header[name] = {
            "dtype": _NAMES[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(little[name].data)

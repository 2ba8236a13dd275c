"""NVIDIA's run-time compiler, which needs no GPU: CUDA C++ to PTX and machine code."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

HOW_TO_GET_NVRTC = "NVRTC is not installed: python -m pip install --group cuda-check"


class CompileError(Exception):
    """The compiler's own words."""


@cache
def nvrtc() -> ctypes.CDLL | None:
    """The library of the wheel nvidia-cuda-nvrtc-cu12 or nvidia-cuda-nvrtc, if there is one."""
    for package in ("nvidia.cuda_nvrtc", "nvidia.cu13"):
        try:
            spec = find_spec(package)
        except ModuleNotFoundError:
            continue
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(place, "lib").glob("libnvrtc.so.*")):
                return ctypes.CDLL(str(path))
    return None


class Program:
    """CUDA C++ compiled for one target, such as ``sm_90a`` or ``compute_80``."""

    def __init__(self, text: str, target: str, options: Sequence[str]) -> None:
        library = nvrtc()
        assert library is not None
        self._library = library
        self._handle = ctypes.c_void_p()
        self._do("nvrtcCreateProgram", ctypes.byref(self._handle), text.encode(), b"k.cu", 0, None,
                 None)  # fmt: skip
        try:
            given = [option.encode() for option in (*options, f"--gpu-architecture={target}")]
            array = (ctypes.c_char_p * len(given))(*given)
            status = library.nvrtcCompileProgram(self._handle, len(given), array)
            self.log = self._take("ProgramLog")
            if status:
                raise CompileError(self.log)
            self.ptx = self._take("PTX")
            self.cubin_bytes = 0
            if target.startswith("sm_"):
                size = ctypes.c_size_t()
                self._do("nvrtcGetCUBINSize", self._handle, ctypes.byref(size))
                self.cubin_bytes = size.value
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(self._handle))

    def _do(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise CompileError(f"{function} gave {status}")

    def _take(self, what: str) -> str:
        size = ctypes.c_size_t()
        self._do(f"nvrtcGet{what}Size", self._handle, ctypes.byref(size))
        memory = ctypes.create_string_buffer(size.value)
        self._do(f"nvrtcGet{what}", self._handle, memory)
        return memory.value.decode()

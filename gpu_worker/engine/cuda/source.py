"""The text of the kernels, what they take, and how they are compiled.

A module's text is made here, includes and constants and all, so that a compiler's cache, which
knows a kernel by its text, never serves an older one. The constants come from the Python that
defines them: nothing is written down twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from gpu_worker.engine import polynomials
from gpu_worker.engine.numerics import LIMIT16, LIMIT_PROBABILITY
from gpu_worker.engine.ops import FRACTION_BITS, NORM_BITS

KERNELS: Final = Path(__file__).with_name("kernels")
MODULES: Final = ("rows", "sums", "fused", "attention")
OPTIONS: Final = (
    "--std=c++17",
    "--fmad=false",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
)
"""Every float operation of ours rounds by itself anyway; these hold for what a compiler adds."""

ACTIVATIONS: Final = {name: place + 1 for place, name in enumerate(polynomials.ACTIVATIONS)}
"""{activation: its number in the kernels}; 0 is none."""

_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.MULTILINE)
_KERNEL = re.compile(
    r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\)', re.MULTILINE
)
_TYPES: Final[dict[str, Any]] = {
    "s8": np.int8,
    "u8": np.bool_,
    "int": np.int32,
    "u32": np.uint32,
    "s64": np.int64,
    "float": np.float32,
    "double": np.float64,
}
"""{a parameter's type in the kernels: NumPy's}. Bytes that hold flags are ``u8`` there."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a kernel takes at one place: a value, or an array of such values."""

    name: str
    dtype: np.dtype[Any]
    array: bool


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel and the module that holds it."""

    name: str
    module: str
    parameters: tuple[Parameter, ...]

    def arguments(self, given: Sequence[Any]) -> list[Any]:
        """Check and convert arguments: numbers get the width that the kernel reads.

        An array may be None where the kernel knows a null pointer. Raises ``TypeError``.
        """
        if len(given) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, not {len(given)}")
        return [
            _checked(self.name, own, value)
            for own, value in zip(self.parameters, given, strict=True)
        ]


def module_text(module: str, folders: Iterable[Path] = (KERNELS,)) -> str:
    """The text of ``module`` with its includes, each once; the first folder that has a file
    gives it."""
    places = tuple(folders)
    seen: set[str] = set()

    def read(name: str) -> str:
        if name == "constants.cuh":
            return constants()
        path = next(place / name for place in places if (place / name).exists())
        return path.read_text("utf-8").replace("#pragma once\n", "")

    def expand(name: str) -> str:
        def include(found: re.Match[str]) -> str:
            if found[1] in seen:
                return ""
            seen.add(found[1])
            return expand(found[1])

        return _INCLUDE.sub(include, read(name))

    return expand(f"{module}.cu")


@cache
def kernels() -> dict[str, Kernel]:
    """{name: kernel} of all modules, read from their text."""
    found = {}
    for module in MODULES:
        for name, parameters in _KERNEL.findall((KERNELS / f"{module}.cu").read_text("utf-8")):
            taken = tuple(_parameter(text) for text in parameters.split(","))
            found[name] = Kernel(name, module, taken)
    return found


@cache
def constants() -> str:
    """The constants of the definition as C++."""
    lines = [
        *(
            f"constexpr int {name} = {value};"
            for name, value in {
                "LIMIT16": LIMIT16,
                "LIMIT_PROBABILITY": LIMIT_PROBABILITY,
                "FRACTION_BITS": FRACTION_BITS,
                "NORM_BITS": NORM_BITS,
                **{f"ACTIVATION_{name.upper()}": place for name, place in ACTIVATIONS.items()},
            }.items()
        ),
        *(
            f"constexpr float {name} = {_literal(getattr(polynomials, name))};"
            for name in (
                "EXP2_LOWEST",
                "NORMAL_CLAMP",
                "TANH_CLAMP",
                "GELU_TANH_LINEAR",
                "GELU_TANH_CUBIC",
            )
        ),
        *(
            _horner(name, getattr(polynomials, name))
            for name in ("EXP2", "NORMAL_TOP", "NORMAL_BOTTOM", "TANH_TOP", "TANH_BOTTOM")
        ),
    ]
    return "\n".join(lines) + "\n"


def _horner(name: str, coefficients: Sequence[np.float32]) -> str:
    """``polynomials.horner`` for these coefficients as a function of its own."""
    steps = [f"    float v = {_literal(coefficients[-1])};"]
    for coefficient in reversed(coefficients[:-1]):
        steps.append(f"    v = __fadd_rn(__fmul_rn(v, x), {_literal(coefficient)});")
    body = "\n".join(steps)
    return f"__device__ inline float horner_{name.lower()}(float x) {{\n{body}\n    return v;\n}}"


def _literal(value: np.float32) -> str:
    return f"{float(value).hex()}f"


def _parameter(text: str) -> Parameter:
    kind, name = text.replace("const ", "").replace("*", " * ").strip().rsplit(" ", 1)
    array = kind.rstrip().endswith("*")
    return Parameter(name, np.dtype(_TYPES[kind.strip(" *")]), array)


def _checked(kernel: str, own: Parameter, value: Any) -> Any:
    if not own.array:
        return own.dtype.type(value)
    if value is None:
        return np.uint64(0)  # CuPy takes None for an argument that is missing
    if value.dtype != own.dtype or not value.flags.c_contiguous:
        raise TypeError(
            f"{kernel} takes {own.name} as contiguous {own.dtype.name}, not {value.dtype.name}"
        )
    return value

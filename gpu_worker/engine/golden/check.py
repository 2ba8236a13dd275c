"""Comparing a backend with the golden vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.golden.cases import CASES, Case
from gpu_worker.engine.golden.inputs import little
from gpu_worker.engine.numerics import EXACT, Exact
from gpu_worker.engine.ops import Operand, Ops

VECTORS: Final = "vectors.json"
MakeOps = Callable[[Exact], Ops]
Digests = dict[str, str]


def covers(case: Case, numerics: str) -> bool:
    """Whether a case is computed in this numerics: slow ones are about attention, alike in all."""
    return numerics == "exact16" or not case.slow


def digests(case: Case, make_ops: MakeOps, numerics: str) -> Digests:
    """SHA-256, cut to 16 bytes, of every named value of a case, in hex: {name: digest}."""
    ops = make_ops(EXACT[numerics])
    found: Digests = {}
    with np.errstate(all="ignore"):
        for name, value in case.run(ops, EXACT[numerics]):
            if isinstance(value, Operand):
                operand = ops.read_operand(value)
                found[f"{name}.integers"] = _digest(operand.values)
                found[f"{name}.scale"] = _digest(operand.scale)
            else:
                found[name] = _digest(ops.read(value))
    return found


@cache
def golden() -> dict[str, dict[str, Digests]]:
    """The stored vectors: {numerics: {case: {name: digest}}}."""
    text = files(__package__).joinpath(VECTORS).read_text("utf-8")
    vectors: dict[str, dict[str, Digests]] = json.loads(text)["digests"]
    return vectors


def differences(case: Case, make_ops: MakeOps, numerics: str) -> list[str]:
    """The named values of a case that differ from the golden ones."""
    wanted, found = golden()[numerics][case.name], digests(case, make_ops, numerics)
    return [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]


def check(make_ops: MakeOps, where: str) -> None:
    """Run every quick case in every exact numerics.

    ``where`` says in words what computes. Raises ``EngineError`` for the first difference.
    """
    for numerics in EXACT:
        for case in CASES:
            if case.slow:
                continue
            wrong = differences(case, make_ops, numerics)
            if wrong:
                raise EngineError(
                    f"{where} does not give the golden vectors: {case.name} in {numerics} "
                    f"differs at {wrong[0]}; its results would be rejected, so it must not join. "
                    "Look for overclocking, faulty memory or a driver or library that is not "
                    "supported"
                )


def _digest(array: NDArray[Any]) -> str:
    """Integers and flags count as int64, however a backend keeps them."""
    if array.dtype.kind != "f":
        array = array.astype(np.int64)
    return sha256(little(array)).hexdigest()[:32]

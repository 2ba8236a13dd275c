"""Every backend gives the golden vectors, operation by operation and for whole tiny models."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.golden.cases import CASES, Case
from gpu_worker.engine.golden.check import check, covers, differences, golden
from gpu_worker.engine.golden.inputs import integers, splitmix, uniform
from gpu_worker.engine.numerics import EXACT, Exact
from gpu_worker.engine.ops import F32, Ops
from gpu_worker.engine.ops_numpy import NumpyOps

QUICK = [case for case in CASES if not case.slow]
SLOW = [case for case in CASES if case.slow]


@pytest.mark.parametrize("numerics", EXACT)
@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_gives_the_golden_vectors(backend: str, case: Case, numerics: str) -> None:
    assert differences(case, BACKENDS[backend], numerics) == []


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", SLOW, ids=lambda case: case.name)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_gives_the_golden_vectors_of_long_rows(backend: str, case: Case) -> None:
    """Up to 32,768 keys beside one that takes nearly all weight."""
    assert differences(case, BACKENDS[backend], "exact16") == []


@pytest.mark.parametrize("numerics", EXACT)
@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_the_specification_gives_the_golden_vectors(case: Case, numerics: str) -> None:
    assert differences(case, Ops, numerics) == []


def test_every_case_has_vectors() -> None:
    assert {numerics: set(cases) for numerics, cases in golden().items()} == {
        numerics: {case.name for case in CASES if covers(case, numerics)} for numerics in EXACT
    }


def test_one_wrong_bit_is_named() -> None:
    """A backend whose layer norm is off by one step in one value is refused, with the place."""

    class Wrong(NumpyOps):
        def norm(self, x: F32, *given: Any) -> F32:
            y = super().norm(x, *given)
            y[2, 1] = np.nextafter(y[2, 1], np.float32(9))
            return y

    def make(numerics: Exact) -> Ops:
        return Wrong(numerics)

    with pytest.raises(EngineError, match=r"the test does not give the golden vectors: norms in"):
        check(make, "the test")


def test_the_inputs_are_what_the_document_says() -> None:
    """First numbers of SplitMix64 from seed 1, and how they become floats and integers."""
    first = splitmix(1, 2).tolist()

    assert first == [0x910A2DEC89025CC1, 0xBEEB8DA1658EEC67]
    assert uniform(1, (2,)).tolist() == [((n >> 40) - (1 << 23)) * 2.0**-23 for n in first]
    assert integers(1, (2,), 127).tolist() == [n % 255 - 127 for n in first]


def test_the_vectors_are_not_all_alike() -> None:
    """Distinct digests: a case whose values were all zero would say little."""
    text = json.dumps(golden())
    distinct = {part for part in text.split('"') if len(part) == 32}

    assert len(distinct) > 700

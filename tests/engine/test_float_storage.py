"""Weights in the float numerics: each rounded once, to nearest, ties to even."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gpu_worker.engine.numerics import FLOAT
from gpu_worker.engine.registration import register
from gpu_worker.engine.registration.storage import round_bfloat16
from gpu_worker.engine.tensors import TensorFile


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    """Against the two neighbours in exact arithmetic, on all kinds of numbers and on ties."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 0x5F00_0000, 500, dtype=np.uint32)
    ties = (bits & np.uint32(0xFFFF_0000)) | np.uint32(0x8000)
    values = np.concatenate([bits, ties, bits | np.uint32(1 << 31)]).view(np.float32)
    for value, got in zip(values, round_bfloat16(values), strict=True):
        near = [np.array(int(got) + step, np.uint16) for step in (-1, 0, 1)]
        floats = [(n.astype(np.uint32) << np.uint32(16)).view(np.float32)[()] for n in near]
        errors = [abs(Fraction(float(f)) - Fraction(float(value))) for f in floats]

        assert errors[1] == min(errors)
        if errors[1] in (errors[0], errors[2]):
            assert got % 2 == 0


@pytest.mark.parametrize("numerics", FLOAT)
def test_float_weights_have_no_scale(tiny: Path, tmp_path: Path, numerics: str) -> None:
    """The dense layers are narrow; tables, norms and biases stay float32."""
    fields = register(tiny, tmp_path, numerics)
    file = TensorFile(tmp_path / "weights.safetensors")
    kinds = {name: file.describe(name)[0] for name in file.names()}
    wanted = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[numerics]
    source = load_file(tiny / "model.safetensors")["encoder.layer.0.output.dense.weight"]
    got = file.as_float32("layer.0.down.weight")

    assert fields["numerics"] == numerics
    assert not any(name.endswith(".scale") for name in kinds)
    dense = {name for name in kinds if name.endswith(".weight")}
    assert {kinds[name] for name in dense} == {wanted}
    assert {kind for name, kind in kinds.items() if name not in dense} == {"F32"}
    digits = {"float32": 24, "float16": 11, "bfloat16": 8}[numerics]
    normal = np.abs(source) > 2.0**-14  # float16 has fewer digits below
    assert (np.abs(got - source)[normal] <= np.abs(source)[normal] * 2.0**-digits).all()

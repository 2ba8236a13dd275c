"""The float numerics' tolerance lets honest machines pass and finds cheaper computations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bert import packed, random_rows, write_tiny_bert

from gpu_worker.engine import Engine, EngineError, load_engine, quantise
from gpu_worker.engine.calibration import ROUND, calibrate, calibration_rows
from gpu_worker.engine.ops import quantise_rows
from gpu_worker.engine.tensors import TensorFile, write_tensors
from gpu_worker.engine.tolerance import LEAST, agrees, distance, tolerance_for

FLOATS = ("float32", "float16", "bfloat16")
Rows = list[list[int]]


class Registered:
    """A small model in a float numerics, its tolerance, and cheaper copies of it."""

    def __init__(self, folder: Path, numerics: str) -> None:
        self.out = folder / numerics
        model = write_tiny_bert(folder / "model", hidden=128, heads=4, intermediate=256, layers=3)
        self.fields = json.loads(json.dumps(quantise(model, self.out, numerics=numerics)))
        self.weights = self.out / "weights.safetensors"
        self.tolerance = calibrate(self.fields, self.weights)

    def run(self, rows: Rows, weights: Path | None = None, threads: int = 2) -> NDArray[Any]:
        path = weights or self.weights
        engine: Engine = load_engine(self.fields, {path.name: path}, threads=threads)
        try:
            return np.concatenate([c.values for c in engine.run("embed", *packed(rows), 16)])
        finally:
            engine.close()

    def with_weights(self, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Path:
        """A copy of the weights file with every dense layer's weights changed, as float32."""
        file = TensorFile(self.weights)
        tensors = {}
        for tensor in file.names():
            values = file.read(tensor)
            if tensor.endswith(".weight"):
                values = store(change(file.as_float32(tensor)), file.describe(tensor)[0])
            tensors[tensor] = values
        path = self.out / name / "weights.safetensors"
        path.parent.mkdir()
        write_tensors(path, tensors)
        return path


def store(values: NDArray[np.float32], kind: str) -> NDArray[Any]:
    if kind == "BF16":
        return (ROUND["bfloat16"](values).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"F32": "<f4", "F16": "<f2"}[kind])


def fewer_bits(limit: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def change(values: NDArray[np.float32]) -> NDArray[np.float32]:
        integers, scale, _ = quantise_rows(values, limit)
        return integers.astype(np.float32) * scale[:, None]

    return change


@pytest.fixture(scope="module", params=FLOATS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    return Registered(tmp_path_factory.mktemp("tolerance"), request.param)


ROWS = random_rows(3, 60, 60)


def test_honest_rows_agree(model: Registered, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread or two, alone or in a batch, with numba or without."""
    found = model.run(ROWS)
    alone = np.concatenate([model.run([row], threads=1) for row in ROWS[:8]])
    monkeypatch.setenv("INFERPOOL_NUMBA", "0")
    plain = model.run(ROWS)

    assert agrees(found, plain, model.tolerance).all()
    assert agrees(found[:8], alone, model.tolerance).all()


def test_weights_of_fewer_bits_are_found_in_every_row(model: Registered) -> None:
    """8 bits where the numerics is finer than that; bfloat16 hides them, but not 5 bits."""
    limit = 15 if model.fields["numerics"] == "bfloat16" else 127
    cheap = model.run(ROWS, model.with_weights("cheap", fewer_bits(limit)))

    assert not agrees(model.run(ROWS), cheap, model.tolerance).any()


def test_a_dropped_last_token_is_found(model: Registered) -> None:
    """In every row; a token of many may count for less than bfloat16's own noise."""
    rows = [row for row in ROWS if len(row) > 1]
    found, short = model.run(rows), model.run([row[:-1] for row in rows])
    caught = ~agrees(found, short, model.tolerance)

    assert caught.all() if model.fields["numerics"] != "bfloat16" else caught.mean() > 0.9


def test_one_bad_row_is_one_row(model: Registered) -> None:
    """Rows are judged by themselves: good neighbours do not hide one, and are not blamed."""
    found = model.run(ROWS)
    other = found.copy()
    other[7] = found[8]

    assert np.flatnonzero(~agrees(found, other, model.tolerance)).tolist() == [7]


def test_calibration_gives_the_same_tolerance_again(model: Registered) -> None:
    assert calibrate(model.fields, model.weights) == model.tolerance
    assert model.tolerance >= LEAST[model.fields["numerics"]]


def test_coarser_numerics_have_a_larger_tolerance(tmp_path: Path) -> None:
    found = []
    for numerics in FLOATS:
        (tmp_path / numerics).mkdir()
        found.append(Registered(tmp_path / numerics, numerics).tolerance)

    assert found[0] < found[1] < found[2] < 1e-2


def test_a_model_that_overflows_is_refused(tmp_path: Path) -> None:
    """A tolerance of rows that are not finite would mean nothing."""
    model = Registered(tmp_path, "float32")
    path = model.with_weights("huge", lambda values: values * np.float32(1e30))

    with pytest.raises(EngineError, match="not finite in float32"):
        calibrate(model.fields, path)


def test_distance_is_one_less_the_cosine_of_unit_vectors() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 20, 50))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)

    assert np.allclose(distance(a, b), 1 - (a * b).sum(axis=1))
    assert not distance(a, a).any()


def test_distance_sees_a_scaled_vector() -> None:
    """The cosine does not: a rig could send twice the vector."""
    a = np.random.default_rng(1).standard_normal((3, 50))

    assert (distance(a, 2 * a) > 0.2).all()


@pytest.mark.parametrize("operation", ["embed", "score", "classify"])
def test_distance_of_values_that_are_not_finite_is_infinite(operation: str) -> None:
    a = np.ones((3, 2), np.float32)
    b = np.array([[1, np.nan], [np.inf, 1], [1, 1]], np.float32)

    assert distance(a, b, operation).tolist() == [np.inf, np.inf, 0]
    assert not agrees(a, b, 1e9, operation)[:2].any()


def test_zero_vectors_agree_with_themselves_alone() -> None:
    zero, one = np.zeros((1, 4)), np.ones((1, 4))

    assert distance(zero, zero) == 0
    assert distance(zero, one) == np.inf


def test_small_logits_differ_by_what_they_differ() -> None:
    """A logit of a reranker may lie near zero, where a relative distance would punish noise."""
    near, far = np.array([[1e-6]]), np.array([[-1e-6]])

    assert distance(near, far, "score") < 1e-11
    assert distance(np.array([[1000.0]]), np.array([[1001.0]]), "score") < 1e-6
    assert distance(np.array([[1.0]]), np.array([[1.1]]), "score") > 1e-3


def test_a_tolerance_is_a_power_of_two_over_the_margin() -> None:
    assert tolerance_for("float16", 1.2e-6) == 2.0**-17
    assert tolerance_for("float32", 0.0) == 2.0**-29


def test_calibration_rows_keep_to_the_model() -> None:
    rows = calibration_rows(20, 7)

    assert {len(row) for row in rows} == {1, 2, 3, 5, 8, 13, 20}
    assert max(int(row.max()) for row in rows) == 6

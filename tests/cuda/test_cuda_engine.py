"""The engine for a device: micro-batches by memory, two streams, what happens when it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostdevice import HostDevice, MakeDevice
from numpy.typing import NDArray

from gpu_worker.engine import DeviceLost, EngineError, OutOfMemory, load_engine
from gpu_worker.engine.cuda.engine import MOST_TOKENS, STREAMS, CudaEngine, bytes_per_token
from gpu_worker.engine.cuda.ops import CudaOps
from gpu_worker.engine.encoder import ENCODERS, Encoder
from gpu_worker.engine.encoderengine import EncoderEngine
from gpu_worker.engine.golden.inputs import below
from gpu_worker.engine.golden.models import MODELS, VOCABULARY
from gpu_worker.engine.interface import Engine
from gpu_worker.engine.layers import Weights
from gpu_worker.engine.numerics import EXACT
from gpu_worker.engine.ops import Ops
from gpu_worker.engine.ops_numpy import NumpyOps
from gpu_worker.engine.tensors import TensorFile, write_tensors

KIND = EXACT["exact8"]
LENGTHS = np.array([9, 40, 3, 3, 77, 1, 25, 12], np.uint32)
TOKENS = below(5, int(LENGTHS.sum()), VOCABULARY)


def encoder(folder: Path, ops: Ops) -> Encoder:
    """A tiny model, its weights where ``ops`` computes."""
    model = next(model for model in MODELS if model.name == "bert classify")
    path = folder / "weights.safetensors"
    write_tensors(path, model.tensors(KIND))
    weights = Weights("bert", model.config, KIND.name, VOCABULARY, TensorFile(path), ops)
    return ENCODERS["bert"](model.config, weights)


def rows_of(engine: Engine, step: int = 3) -> NDArray[Any]:
    chunks = list(engine.run("classify", LENGTHS, TOKENS, step))
    assert [chunk.first_row for chunk in chunks] == list(range(0, LENGTHS.size, step))
    assert not any(chunk.failed for chunk in chunks)
    return np.concatenate([chunk.values for chunk in chunks])


@pytest.fixture
def wanted(tmp_path: Path) -> NDArray[Any]:
    """What the processor gives."""

    def make() -> NumpyOps:
        return NumpyOps(KIND)

    engine = EncoderEngine(
        encoder(tmp_path, make()), make, max_tokens=150, vocabulary=VOCABULARY, threads=1
    )
    values = rows_of(engine)
    engine.close()
    return values


def open_engine(folder: Path, make: Callable[[], HostDevice]) -> CudaEngine:
    def make_ops() -> CudaOps:
        return CudaOps(KIND, make())

    ops = make_ops()
    return CudaEngine(encoder(folder, ops), make_ops, max_tokens=150, vocabulary=VOCABULARY)


def test_rows_are_those_of_the_processor(
    make_device: MakeDevice, tmp_path: Path, wanted: NDArray[Any]
) -> None:
    engine = open_engine(tmp_path, make_device)
    got = rows_of(engine)
    engine.close()

    assert np.array_equal(got.view(np.uint32), wanted.view(np.uint32))


def test_stages_add_up_the_devices_clock(make_device: MakeDevice, tmp_path: Path) -> None:
    engine = open_engine(tmp_path, make_device)
    assert set(engine.stages().values()) == {0.0}
    rows_of(engine)
    first = engine.stages()
    rows_of(engine)
    second = engine.stages()
    engine.close()

    assert set(first) == {"upload", "compute", "download"}
    assert all(0 < first[stage] < second[stage] for stage in first)


class Small(HostDevice):
    """A device that takes ``most`` bytes in one piece; it tells of ``free`` bytes."""

    most = 1 << 30
    free = 1 << 30

    def empty(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        if np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize > self.most:
            raise OutOfMemory("the device's memory is full")
        return super().empty(shape, dtype)

    def free_bytes(self) -> int:
        return self.free


@pytest.fixture
def make_small(make_device: MakeDevice) -> MakeDevice:
    folder = make_device()._folder

    def make(most: int = 1 << 30, free: int = 1 << 30) -> Small:
        device = Small(folder)
        device.most, device.free = most, free
        return device

    return make


def test_too_little_memory_halves_micro_batches(
    make_small: MakeDevice, tmp_path: Path, wanted: NDArray[Any]
) -> None:
    """The results stay, and later micro-batches are small from the start."""
    made: list[HostDevice] = []
    most = 1 << 30

    def make() -> HostDevice:
        made.append(make_small(most))
        return made[-1]

    engine = open_engine(tmp_path, make)
    most = 100 * 1100 * 4  # the wide layer of a hundred tokens, and not of 170
    got = rows_of(engine)
    launches = [len(device.launched) for device in made]
    again = rows_of(engine)
    engine.close()

    assert np.array_equal(got.view(np.uint32), wanted.view(np.uint32))
    assert np.array_equal(again.view(np.uint32), wanted.view(np.uint32))
    assert sum(len(device.launched) for device in made) < 2 * sum(launches)


def test_a_row_that_does_not_fit_by_itself_is_an_error(
    make_small: MakeDevice, tmp_path: Path
) -> None:
    most = 1 << 30

    def make() -> HostDevice:
        return make_small(most)

    engine = open_engine(tmp_path, make)
    most = 50 * 1100 * 4
    with pytest.raises(OutOfMemory, match="a row of 77 tokens"):
        rows_of(engine)
    most = 1 << 30
    engine.close()


def test_a_lost_device_is_an_error_of_its_own(make_small: MakeDevice, tmp_path: Path) -> None:
    lost = False

    class Lost(Small):
        def launch(self, *given: Any) -> None:
            if lost:
                raise DeviceLost("the device does not work any more")
            super().launch(*given)

    def make() -> HostDevice:
        return Lost(make_small()._folder)

    engine = open_engine(tmp_path, make)
    lost = True
    with pytest.raises(DeviceLost):
        rows_of(engine)
    engine.close()


def test_micro_batches_follow_the_memory(make_small: MakeDevice, tmp_path: Path) -> None:
    """As many tokens as fit on all streams at once, but no more than are of use."""
    config = next(model.config for model in MODELS if model.name == "bert classify")
    large = open_engine(tmp_path, lambda: make_small(free=1 << 34))
    small = open_engine(tmp_path, lambda: make_small(free=1000 * STREAMS * bytes_per_token(config)))
    many = np.full(3000, 100, np.uint32)
    cuts = [max(b.last_token - b.first_token for b in e._cut(many)) for e in (large, small)]
    large.close()
    small.close()

    assert MOST_TOKENS * 0.9 < cuts[0] <= MOST_TOKENS
    assert 700 <= cuts[1] <= 800


def test_few_tokens_make_one_micro_batch(make_device: MakeDevice, tmp_path: Path) -> None:
    engine = open_engine(tmp_path, make_device)
    cuts = [len(list(engine._cut(np.full(rows, 100, np.uint32)))) for rows in (40, 41)]
    engine.close()

    assert cuts[0] == 1 < cuts[1]


def test_without_cupy_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> None:
        assert name == "cupy"

    monkeypatch.setattr("gpu_worker.engine.cuda.available.find_spec", find_spec)
    with pytest.raises(EngineError, match=r"pip install 'inferpool\[cuda12\]'"):
        load_engine({"architecture": "bert"}, {}, backend="cupy")


def test_auto_computes_on_the_processor_where_there_is_no_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gpu_worker.engine.backends import resolve

    monkeypatch.setattr("gpu_worker.engine.cuda.available.find_spec", lambda name: None)

    assert resolve("auto") == "numpy"


def test_auto_computes_float_numerics_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu_worker.engine.backends import resolve

    monkeypatch.setattr("gpu_worker.engine.cuda.available.check_available", lambda device: None)

    assert resolve("auto", 0, "exact8") == "cupy"
    assert resolve("auto", 0, "float16") == "numpy"

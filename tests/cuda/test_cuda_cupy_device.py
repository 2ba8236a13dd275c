"""CupyDevice calls CuPy and cuBLAS as they want to be called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import fakecupy
import numpy as np
import pytest
from hostdevice import MakeDevice

from gpu_worker.engine import DeviceLost, EngineError, OutOfMemory, load_engine
from gpu_worker.engine.backends import make_backend, resolve
from gpu_worker.engine.cuda.ops import CudaOps
from gpu_worker.engine.golden.cases import CASES
from gpu_worker.engine.golden.check import differences
from gpu_worker.engine.golden.inputs import below
from gpu_worker.engine.golden.models import MODELS, VOCABULARY
from gpu_worker.engine.numerics import EXACT, Exact
from gpu_worker.engine.tensors import write_tensors

MODULE = "gpu_worker.engine.cuda.cupydevice"


@pytest.fixture
def cupydevice(make_device: MakeDevice, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, over a CuPy that is on the host."""
    for name, module in fakecupy.modules(make_device()._folder).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    __import__(MODULE)
    yield sys.modules[MODULE]
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize("numerics", list(EXACT))
@pytest.mark.parametrize("name", ["dense.5000", "pooling"])
@pytest.mark.parametrize("fused_depth", [0, 1024])
def test_golden_vectors_through_cupy(
    cupydevice: Any, name: str, numerics: str, fused_depth: int
) -> None:
    case = next(case for case in CASES if case.name == name)

    def make_ops(kind: Exact) -> CudaOps:
        return CudaOps(kind, cupydevice.CupyDevice(0), fused_depth=fused_depth, deepest=1024)

    assert not differences(case, make_ops, numerics)


def test_the_clock_counts_in_seconds(cupydevice: Any) -> None:
    device = cupydevice.CupyDevice(0)

    assert device.seconds(device.mark(), device.mark()) == 1.5e-3


def test_memory_that_can_be_had(cupydevice: Any) -> None:
    assert cupydevice.CupyDevice(0).free_bytes() == 1 << 30


def test_devices_of_a_thread_share_its_stream(cupydevice: Any) -> None:
    """What one starts and what the other waits for are in one order."""
    first, second = cupydevice.CupyDevice(0), cupydevice.CupyDevice(0)
    others: list[Any] = []
    thread = Thread(target=lambda: others.append(cupydevice.CupyDevice(0)))
    thread.start()
    thread.join()

    assert first._stream is second._stream
    assert others[0]._stream is not first._stream


def test_an_empty_grid_launches_nothing(cupydevice: Any) -> None:
    cupydevice.CupyDevice(0).launch("no such kernel", (0, 1), 32, ())


@pytest.mark.parametrize(
    ("ordinal", "words"),
    [(1, "compute capability 7.0; integer tensor cores begin with 7.5"), (2, "this machine has 2")],
)
def test_devices_that_cannot_do_it_are_refused(cupydevice: Any, ordinal: int, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        cupydevice.CupyDevice(ordinal)


def test_without_a_driver_the_error_names_the_remedy(
    cupydevice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> int:
        raise fakecupy.CUDARuntimeError(35)

    monkeypatch.setattr(cupydevice.runtime, "getDeviceCount", count)
    with pytest.raises(EngineError, match="install NVIDIA's driver"):
        cupydevice.device_count()


@pytest.mark.parametrize(
    ("raised", "wanted"),
    [
        (fakecupy.OutOfMemoryError(), OutOfMemory),
        (fakecupy.CUDARuntimeError(2), OutOfMemory),
        (fakecupy.CUBLASError(3), OutOfMemory),
        (fakecupy.CUDARuntimeError(700), DeviceLost),
        (fakecupy.CUDADriverError(719), DeviceLost),
        (fakecupy.CUDADriverError(999), DeviceLost),
        (fakecupy.CUBLASError(13), DeviceLost),
        (fakecupy.CUDADriverError(1), EngineError),
        (fakecupy.CUDARuntimeError(9), EngineError),
        (fakecupy.CompileException("k.cu(1): error"), EngineError),
    ],
    ids=repr,
)
def test_cupys_errors_become_the_engines(
    cupydevice: Any, raised: Exception, wanted: type[EngineError]
) -> None:
    """Exactly this class: a refused call is no lost device."""
    with pytest.raises(EngineError) as caught, cupydevice.translated():
        raise raised

    assert type(caught.value) is wanted


def test_uploads_do_not_follow_what_the_caller_does_next(cupydevice: Any) -> None:
    device = cupydevice.CupyDevice(0)
    values = np.arange(5, dtype=np.int32)
    array = device.upload(values)
    values[:] = 0

    assert device.download([array, array[1:3]])[1].tolist() == [1, 2]


def test_the_backend_makes_its_operations(cupydevice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``load_engine`` and ``check_golden`` call for the backend cupy."""
    monkeypatch.setattr("gpu_worker.engine.cuda.available.find_spec", lambda name: name)

    assert resolve("auto", 0) == "cupy"
    assert resolve("auto", 1) == "numpy"
    assert isinstance(make_backend("cupy", "exact8", 0)(), CudaOps)


def test_float_numerics_are_refused(cupydevice: Any) -> None:
    with pytest.raises(EngineError, match="'float16' is not computed on CUDA devices; use the"):
        make_backend("cupy", "float16", 0)


def test_a_whole_engine_through_cupy(
    cupydevice: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a manifest and files: the processor's bits."""
    monkeypatch.setattr("gpu_worker.engine.cuda.available.find_spec", lambda name: name)
    model = next(model for model in MODELS if model.name == "modernbert mean")
    path = tmp_path / "weights.safetensors"
    write_tensors(path, model.tensors(EXACT["exact16"]))
    manifest = {
        "architecture": "modernbert", "numerics": "exact16", "vocabulary": VOCABULARY,
        "max_tokens": 150, "width": 48, "dtype": "<f4", "config": model.config.fields(),
    }  # fmt: skip
    lengths = np.array([20, 70, 5], np.uint32)
    tokens = below(5, 95, VOCABULARY)
    found = []
    for backend in ("numpy", "cupy"):
        engine = load_engine(manifest, {path.name: path}, backend=backend)
        (chunk,) = engine.run("embed", lengths, tokens, 10)
        engine.close()
        found.append(chunk.values.view(np.uint32))

    assert np.array_equal(*found)

"""The bits do not depend on the processor: libraries told to compute as on other ones agree.

Each setting is a process of its own, because libraries choose their code when they are loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]
from tiny_bert import packed, random_rows, write_tiny_bert

from gpu_worker.engine import load_engine, quantise
from gpu_worker.engine.numerics import EXACT

CORES = {
    "Prescott": "pni", "Nehalem": "sse4_2", "Sandybridge": "avx", "Haswell": "avx2",
    "Zen": "avx2", "SkylakeX": "avx512dq", "Cooperlake": "avx512_bf16",
    "SapphireRapids": "amx_tile",
}  # fmt: skip
"""OpenBLAS's kernels by name, and the flag of processors that can run them."""


def processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = [line for line in text.splitlines() if line.startswith("flags")]
    return set(lines[0].split(":")[1].split()) if lines else set()


def cores() -> list[str]:
    """The kernels that can run here."""
    return [core for core, flag in CORES.items() if flag in processor_flags()]


def numpy_features() -> list[str]:
    """What NumPy has code for beyond its baseline and uses here."""
    from numpy._core import _multiarray_umath as umath

    return [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]


def whole_matrix() -> list[dict[str, str]]:
    """Every setting by itself, with numba and without it."""
    settings: list[dict[str, str]] = [{}]
    settings += [{"OPENBLAS_NUM_THREADS": count} for count in ("1", "2", "4")]
    settings += [{"OPENBLAS_CORETYPE": core} for core in cores()]
    features = numpy_features()
    settings += [{"NPY_DISABLE_CPU_FEATURES": feature} for feature in features]
    settings += [{"NPY_DISABLE_CPU_FEATURES": " ".join(features)}] if len(features) > 1 else []
    without = [{"INFERPOOL_NUMBA": "0", **setting} for setting in settings]
    return without if find_spec("numba") is None else settings + without


_CHILD = """
import json, os, sys
from hashlib import sha256
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_bert import packed, random_rows
from numpy._core import _multiarray_umath as umath
from threadpoolctl import threadpool_info, threadpool_limits
from gpu_worker.engine import load_engine
found = {}
for folder in map(Path, sys.argv[2:]):
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {"weights.safetensors": folder / "weights.safetensors"}
    for threads in (1, 2, 4):
        engine = load_engine(manifest, files, threads=threads)
        # The engine has held the BLAS to one thread; this also allows more than there are cores.
        threadpool_limits(int(os.environ.get("OPENBLAS_NUM_THREADS", "1")), user_api="blas")
        rows = packed(random_rows(6, 30, 128))
        values = b"".join(chunk.values.tobytes() for chunk in engine.run("embed", *rows, 9))
        found[f"{manifest['numerics']} {threads}"] = sha256(values).hexdigest()
        state = threadpool_info()
        engine.close()
blas = [entry for entry in state if entry["user_api"] == "blas"]
print(json.dumps({
    "found": found,
    "core": blas[0].get("architecture") if blas else None,
    "blas threads": blas[0]["num_threads"] if blas else None,
    "features": [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)],
    "numba": "numba" in sys.modules,
}))
"""


@dataclass(frozen=True)
class Models:
    """One small model in every exact numerics, and the digests of its results here."""

    folders: list[Path]
    expected: dict[str, str]

    def compute(self, **setting: str) -> dict[str, Any]:
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, str(Path(__file__).parent), *map(str, self.folders)],
            env=os.environ | setting, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert child.returncode == 0, f"{setting}: {child.stderr}"
        report: dict[str, Any] = json.loads(child.stdout)
        return report

    def check(self, **setting: str) -> dict[str, Any]:
        report = self.compute(**setting)
        for name, digest in report["found"].items():
            assert digest == self.expected[name.split()[0]], f"{name} threads with {setting}"
        return report


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Wide enough that exact8 splits a product."""
    place = tmp_path_factory.mktemp("processors")
    source = write_tiny_bert(
        place / "model", hidden=96, heads=6, intermediate=1100, positions=128, seed=3
    )
    folders, expected = [], {}
    for numerics in EXACT:
        out = place / numerics
        manifest = quantise(source, out, numerics=numerics)
        (out / "manifest.json").write_text(json.dumps(manifest))
        engine = load_engine(manifest, {"weights.safetensors": out / "weights.safetensors"})
        chunks = engine.run("embed", *packed(random_rows(6, 30, 128)), 64)
        expected[numerics] = sha256(np.concatenate([c.values for c in chunks])).hexdigest()
        engine.close()
        folders.append(out)
    return Models(folders, expected)


@pytest.mark.slow
def test_without_numba(models: Models) -> None:
    """With 1, 2 and 4 threads, as in all of these tests."""
    assert not models.check(INFERPOOL_NUMBA="0")["numba"]


@pytest.mark.slow
@pytest.mark.skipif(not cores(), reason="OpenBLAS's kernels are chosen by name on x86 only")
def test_an_old_processors_blas_on_four_threads(models: Models) -> None:
    report = models.check(OPENBLAS_CORETYPE=cores()[0], OPENBLAS_NUM_THREADS="4")

    here = [entry["architecture"] for entry in threadpool_info() if "architecture" in entry]
    assert report["core"] not in here, "the setting had no effect"
    assert report["blas threads"] == 4


@pytest.mark.slow
@pytest.mark.skipif(not numpy_features(), reason="NumPy has only its baseline here")
def test_numpy_without_its_vector_code(models: Models) -> None:
    features = " ".join(numpy_features())
    report = models.check(NPY_DISABLE_CPU_FEATURES=features, INFERPOOL_NUMBA="0")

    assert report["features"] == []


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("setting", whole_matrix(), ids=str)
def test_every_setting(models: Models, setting: dict[str, str]) -> None:
    models.check(**setting)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_numba_for_the_plainest_processor(models: Models) -> None:
    """Code without the vector instructions of this processor: compiled anew."""
    pytest.importorskip("numba")
    models.check(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")


@pytest.mark.long
def test_a_wrong_result_would_be_seen(models: Models) -> None:
    """The same comparison with one weight changed by one step fails."""
    from gpu_worker.engine.tensors import TensorFile, write_tensors

    folder = models.folders[0]
    file = TensorFile(folder / "weights.safetensors")
    tensors = {name: np.array(file.read(name)) for name in file.names()}
    tensors["layer.0.down.weight"][0, 0] ^= 1
    other = folder.with_name("changed")
    other.mkdir()
    write_tensors(other / "weights.safetensors", tensors)
    (other / "manifest.json").write_text((folder / "manifest.json").read_text())

    with pytest.raises(AssertionError, match="exact16 1 threads"):
        Models([other], models.expected).check()

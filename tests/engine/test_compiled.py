"""Compiled functions: where their machine code is kept, and that nothing in it is fused."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import gpu_worker.engine

pytest.importorskip("numba", reason="numba is not installed: pip install 'inferpool[numba]'")

from gpu_worker.engine import compiled
from gpu_worker.engine.compiled import SOURCES, code_folder

ENGINE = Path(gpu_worker.engine.__file__).parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_code_is_kept_in_the_users_caches(home: Path) -> None:
    folder = code_folder()

    assert folder is not None
    assert folder.parent == home / "inferpool" / "compiled"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_numba_s_own_setting_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(home / "here"))
    folder = code_folder()

    assert folder is not None
    assert folder.parent == home / "here"


def test_changed_sources_have_another_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant that changes in one file is frozen in the code of functions in another."""
    before = code_folder()
    monkeypatch.setattr(compiled, "SOURCES", SOURCES[:-1])

    assert code_folder() != before


def test_every_source_of_compiled_functions_counts() -> None:
    """What the kernels' files import of ours is in the list, so no change goes unnoticed."""
    for name in SOURCES:
        if name.startswith("kernels"):
            tree = ast.parse((ENGINE / name).read_text("utf-8"))
            imported = {
                f"{node.module.rpartition('.')[2]}.py"
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gpu_")
            }

            assert imported <= set(SOURCES)
    assert {path.name for path in ENGINE.glob("kernels_*.py")} <= set(SOURCES)


def test_a_folder_that_others_may_write_to_is_not_used(home: Path) -> None:
    """Its files are run as machine code."""
    folder = code_folder()
    assert folder is not None
    folder.chmod(0o777)

    assert code_folder() is None


def test_without_a_place_there_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands where the folder would be: nothing can be made there, not even by root."""
    (home / "inferpool").write_text("in the way")

    assert code_folder() is None


_CHILD = """
import numpy as np
from gpu_worker.engine import kernels_numba as kernels
x = np.array([1.0, -2.0, 0.5], np.float32)
kernels.activate(x, kernels.RELU)
print(x.tolist(), kernels.activate.stats.cache_path)
"""


def run_child(code: str, **changes: str) -> str:
    environment = {key: os.environ[key] for key in os.environ if key != "NUMBA_CACHE_DIR"}
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment | changes,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return child.stdout.strip()


@pytest.mark.slow
def test_kernels_run_where_nothing_can_be_kept(tmp_path: Path) -> None:
    """Compiled for the process alone; with a place, the code is there for the next process."""
    (tmp_path / "inferpool").write_text("in the way")

    assert run_child(_CHILD, XDG_CACHE_HOME=str(tmp_path)) == "[1.0, 0.0, 0.5] None"
    assert str(tmp_path / "other") in run_child(_CHILD, XDG_CACHE_HOME=str(tmp_path / "other"))
    assert list((tmp_path / "other").rglob("*activate*.nbc"))


_INSPECT = """
import re
import numpy as np
from numba import njit
from gpu_worker.engine import kernels_numba
from gpu_worker.engine.golden.cases import CASES
from gpu_worker.engine.numerics import EXACT
from gpu_worker.engine.ops_numba import NumbaOps

FUSED = re.compile(r"\\b(v?fn?m(add|sub)\\w*|v?rcp\\w*|v?rsqrt\\w*|fml[as]\\w*|frecpe|frsqrte)\\b")

def fused_in(function):
    code = "".join(function.inspect_asm().values())
    assert code, function.__name__
    return sorted({match[0] for match in FUSED.finditer(code)})

for case in CASES:
    if not case.slow and not case.name.startswith("model"):
        for numerics in ("exact16", "exact8"):
            list(case.run(NumbaOps(EXACT[numerics]), EXACT[numerics]))
for name, function in vars(kernels_numba).items():
    if getattr(function, "signatures", ()):
        print(name, *fused_in(function))

@njit(fastmath={"contract"})
def sample(x, y, out):
    for i in range(x.shape[0]):
        out[i] = x[i] * y[i] + out[i]

x = np.ones(64, np.float32)
sample(x, x, x)
print("sample", *fused_in(sample))
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nothing_is_fused(tmp_path: Path) -> None:
    """No fused multiply-add and no approximate reciprocal in the code of any exact kernel; the
    same search finds one in a function that may be fused."""
    (tmp_path / "inferpool").write_text("in the way")  # kept code cannot be inspected
    lines = [line.split() for line in run_child(_INSPECT, XDG_CACHE_HOME=str(tmp_path)).split("\n")]
    found = {line[0]: line[1:] for line in lines}
    sample = found.pop("sample")

    assert len(found) >= 10
    assert not any(found.values()), found
    assert sample or not _has_fma()


def _has_fma() -> bool:
    from numpy._core._multiarray_umath import __cpu_features__ as features

    return bool(features.get("FMA3") or features.get("NEON_VFPV4"))

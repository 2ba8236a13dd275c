"""The promise that carries everything: a row's bits depend on the model and the row alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_bert import packed, random_rows, write_tiny_bert

from gpu_worker.engine import Engine, quantise

numerics = pytest.mark.parametrize("numerics", ["exact16", "exact13", "exact8w", "exact8"])
Open = Callable[..., Engine]


def embed(engine: Engine, rows: Sequence[Sequence[int]], step: int = 64) -> NDArray[np.uint32]:
    """The bits of every row."""
    values = [chunk.values for chunk in engine.run("embed", *packed(rows), step)]
    return np.concatenate(values).view(np.uint32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Wide enough that exact8 splits a product, long enough that rows meet and part."""
    return write_tiny_bert(
        tmp_path / "wide", hidden=96, heads=6, intermediate=1100, positions=128, seed=3
    )


@numerics
def test_any_thread_count_and_chunk_size(open_engine: Open, model: Path, numerics: str) -> None:
    """1, 2 and 4 threads, chunks of 1, 7 and everything."""
    rows = random_rows(1, 60, 120)
    results = [
        embed(open_engine(model, numerics, threads=threads), rows, step)
        for threads, step in ((1, 64), (2, 1), (4, 7), (2, 1000))
    ]

    for other in results[1:]:
        assert np.array_equal(results[0], other)


@numerics
def test_single_rows_shuffled_rows_and_sorted_rows(
    open_engine: Open, model: Path, numerics: str
) -> None:
    """Alone, in any order, next to any neighbour, twice."""
    rows = random_rows(2, 40, 128)
    engine = open_engine(model, numerics, threads=2)
    whole = embed(engine, rows)
    order = np.random.default_rng(5).permutation(len(rows))
    by_length = np.argsort([-len(row) for row in rows], kind="stable")

    assert np.array_equal(np.concatenate([embed(engine, [row]) for row in rows]), whole)
    assert np.array_equal(embed(engine, [rows[i] for i in order]), whole[order])
    assert np.array_equal(embed(engine, [rows[i] for i in by_length]), whole[by_length])
    assert np.array_equal(embed(engine, rows + rows), np.concatenate([whole, whole]))


@numerics
def test_any_size_of_micro_batches_and_blocks(
    open_engine: Open, model: Path, numerics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes that speed is tuned with have no influence."""
    rows = random_rows(3, 20, 128)
    engine = open_engine(model, numerics, threads=2)
    whole = embed(engine, rows)
    for tokens, block, pairs in ((1, 500, 50), (100, 3000, 999), (10_000, 10**6, 10**6)):
        monkeypatch.setattr("gpu_worker.engine.plan.TOKENS", tokens)
        monkeypatch.setattr("gpu_worker.engine.ops_numpy.BLOCK_VALUES", block)
        monkeypatch.setattr("gpu_worker.engine.ops_numpy.PAIR_VALUES", pairs)
        monkeypatch.setattr("gpu_worker.engine.pairs.PAIRS", pairs)

        assert np.array_equal(embed(engine, rows), whole)


@numerics
def test_the_specification_itself_gives_these_bits(
    open_engine: Open, model: Path, numerics: str
) -> None:
    """The plain operations, in int64 and row by row, compute the same model."""
    from gpu_worker.engine.encoder import BertEncoder
    from gpu_worker.engine.encoderengine import EncoderEngine
    from gpu_worker.engine.layers import Weights
    from gpu_worker.engine.numerics import EXACT
    from gpu_worker.engine.ops import Ops
    from gpu_worker.engine.tensors import TensorFile

    rows = random_rows(4, 8, 100)
    fast = open_engine(model, numerics, threads=1)
    assert isinstance(fast, EncoderEngine)
    path = next(model.parent.glob(f"quantised-*-{numerics}/weights.safetensors"))
    ops = Ops(EXACT[numerics])
    config = fast._encoder.config
    slow = BertEncoder(config, Weights("bert", config, numerics, 100, TensorFile(path), ops))
    expected = [
        slow.encode(ops, np.array(row, np.uint32), [len(row)], lambda: False)[0] for row in rows
    ]

    assert np.array_equal(np.concatenate(expected).view(np.uint32), embed(fast, rows))


_CHILD = """
import sys, json
from pathlib import Path
from hashlib import sha256
sys.path.insert(0, sys.argv[1])
from tiny_bert import packed, random_rows
from threadpoolctl import threadpool_info
from gpu_worker.engine import load_engine
manifest = json.loads(Path(sys.argv[2]).read_text())
engine = load_engine(manifest, {"weights.safetensors": Path(sys.argv[3])}, threads=2)
engine._limits.restore_original_limits()  # so that the BLAS really uses the threads it is given
rows = packed(random_rows(6, 30, 128))
values = b"".join(chunk.values.tobytes() for chunk in engine.run("embed", *rows, 9))
blas = [entry for entry in threadpool_info() if entry["user_api"] == "blas"]
print(json.dumps({
    "digest": sha256(values).hexdigest(),
    "kind": blas[0].get("architecture") if blas else None,
    "threads": blas[0]["num_threads"] if blas else None,
}))
engine.close()
"""


def _processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = [line for line in text.splitlines() if line.startswith("flags")]
    return set(lines[0].split(":")[1].split()) if lines else set()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_any_blas_kernel_and_blas_thread_count(open_engine: Open, model: Path) -> None:
    """OpenBLAS told to use other processors' kernels, and 1, 2 and 4 threads."""
    engine = open_engine(model, "exact16", threads=2)
    values = b"".join(
        chunk.values.tobytes()
        for chunk in engine.run("embed", *packed(random_rows(6, 30, 128)), 64)
    )

    out = model.parent / "child"
    manifest = model.parent / "manifest.json"
    manifest.write_text(json.dumps(quantise(model, out)))
    flags = _processor_flags()
    needs = {
        "Nehalem": "sse4_2", "Sandybridge": "avx", "Haswell": "avx2", "Zen": "avx2",
        "SkylakeX": "avx512dq",
    }  # fmt: skip
    settings = [{"OPENBLAS_NUM_THREADS": count} for count in ("1", "2", "4")]
    settings += [
        {"OPENBLAS_CORETYPE": kind, "OPENBLAS_NUM_THREADS": "2"}
        for kind, flag in needs.items()
        if flag in flags
    ]
    seen = set()
    for setting in settings:
        child = subprocess.run(
            [
                sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(manifest),
                str(out / "weights.safetensors"),
            ],
            env=os.environ | setting, capture_output=True, text=True, check=True,
        )  # fmt: skip
        report = json.loads(child.stdout)
        seen.add(report["kind"])

        assert report["digest"] == sha256(values).hexdigest(), setting
    assert len(seen) > 1 or "avx2" not in flags, f"only {seen} ran: the setting had no effect"

"""What the engine refuses, in which words, and how its iterator behaves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bert import packed, random_rows

from gpu_worker.engine import Engine, EngineError, load_engine, quantise

Open = Callable[..., Engine]
U32 = np.uint32


@pytest.mark.parametrize(
    ("operation", "lengths", "tokens", "step", "text"),
    [
        ("digest", [1], [1], 1, "operation 'digest' is not supported; supported: embed"),
        ("embed", [1], [1], 0, "rows_per_chunk is 0; it must be at least 1"),
        ("embed", [2, 2], [1, 2, 3], 1, "lengths add up to 4 tokens, but 3 were given"),
        ("embed", [1, 0], [1], 1, "row 1 is empty"),
        ("embed", [1, 65], [1] * 66, 1, "row 1 has 65 tokens; this model takes at most 64"),
        ("embed", [2, 2], [1, 2, 3, 100], 1, "row 1 holds token 100; .* ends at 99"),
        ("embed", [], [1], 1, "lengths add up to 0 tokens, but 1 were given"),
    ],
)
def test_wrong_rows_are_refused_at_the_call(
    open_engine: Open,
    tiny: Path,
    operation: str,
    lengths: list[int],
    tokens: list[int],
    step: int,
    text: str,
) -> None:
    """Not at the first chunk: the caller learns before it has told anybody."""
    engine = open_engine(tiny, threads=1)
    with pytest.raises(EngineError, match=text):
        engine.run(operation, np.array(lengths, U32), np.array(tokens, U32), step)


def test_wrong_types_are_refused(open_engine: Open, tiny: Path) -> None:
    engine = open_engine(tiny, threads=1)
    with pytest.raises(EngineError, match="tokens must be a one-dimensional uint32 array"):
        engine.run("embed", np.array([1], U32), np.array([1], np.int64), 1)  # type: ignore[arg-type]


def test_no_rows_give_no_chunks(open_engine: Open, tiny: Path) -> None:
    engine = open_engine(tiny, threads=2)

    assert list(engine.run("embed", np.array([], U32), np.array([], U32), 4)) == []


def test_chunks_have_the_asked_size_and_belong_to_the_caller(open_engine: Open, tiny: Path) -> None:
    """Rows in order, every chunk full but the last, no chunk's memory used twice."""
    rows = random_rows(1, 23, 64)
    engine = open_engine(tiny, threads=2)
    chunks = list(engine.run("embed", *packed(rows), 5))

    assert [chunk.first_row for chunk in chunks] == [0, 5, 10, 15, 20]
    assert [chunk.values.shape for chunk in chunks] == [(5, 32)] * 4 + [(3, 32)]
    assert all(chunk.values.dtype == np.dtype(engine.dtype) for chunk in chunks)
    assert not any(np.shares_memory(a.values, b.values) for a, b in pairwise(chunks))


def test_closing_the_iterator_stops_the_work(
    open_engine: Open, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2,000 micro-batches only those in hand are computed, and the engine still works."""
    monkeypatch.setattr("gpu_worker.engine.plan.TOKENS", 1)
    engine = open_engine(tiny, threads=2)
    computed = []
    compute = engine._compute  # type: ignore[attr-defined]

    def counted(lengths: Any, *rest: Any) -> Any:
        computed.append(lengths)
        return compute(lengths, *rest)

    monkeypatch.setattr(engine, "_compute", counted)
    rows = [[1, 2, 3]] * 2000
    chunks = engine.run("embed", *packed(rows), 3)
    first = next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    (again,) = engine.run("embed", *packed(rows[:3]), 3)

    assert again.values.tobytes() == first.values.tobytes()
    assert len(computed) < 20


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_closing_the_engine_ends_a_run_and_is_final(
    open_engine: Open, tiny: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Whether the next micro-batch was computed, in progress or not begun: one kind of error."""
    monkeypatch.setattr("gpu_worker.engine.plan.TOKENS", 3)
    engine = open_engine(tiny, threads=1)
    chunks = engine.run("embed", *packed([[1, 2, 3]] * 4000), 1)
    for _ in range(taken):
        next(chunks)
    engine.close()
    engine.close()

    with pytest.raises(EngineError, match="this engine was closed while it worked"):
        deque(chunks, maxlen=0)
    with pytest.raises(EngineError, match="this engine is closed"):
        engine.run("embed", *packed([[1]]), 1)


def test_two_runs_may_be_read_in_turn(open_engine: Open, tiny: Path) -> None:
    """A direct request beside a batch: both give their own rows."""
    rows = random_rows(4, 12, 64)
    engine = open_engine(tiny, threads=2)
    whole = [chunk.values.tobytes() for chunk in engine.run("embed", *packed(rows), 3)]
    one, two = (engine.run("embed", *packed(rows), 3) for _ in range(2))
    taken = [(a.values.tobytes(), b.values.tobytes()) for a, b in zip(one, two, strict=True)]

    assert taken == [(value, value) for value in whole]


@pytest.fixture
def manifest(tiny: Path, tmp_path: Path) -> dict[str, Any]:
    return quantise(tiny, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"architecture": "llama"},
            "architecture 'llama' is not supported; supported: bert",
        ),
        ({"numerics": "int4"}, "numerics 'int4' is not supported; supported: exact16, exact13, "),
        ({"numerics": "exact13"}, r"layer.0.\w+.weight exceeds ±8127"),
        ({"numerics": "exact8"}, "weight must be int8 .* for exact8, not int16"),
        ({"width": 31}, "width is 31; this model gives 32"),
        ({"dtype": "<f2"}, "dtype is '<f2'; this model gives '<f4'"),
        ({"max_tokens": 65}, "max_tokens is 65; this model has 64 positions"),
        ({"max_tokens": "64"}, "max_tokens is '64'; it must be from 1"),
        ({"vocabulary": 101}, r"embeddings.word must be float32 \[101, 32\] .*, not float32 \[100"),
        ({"config": {}}, "config.layers is missing"),
        ({"config.layer": 2}, "config.layer is not known; known: layers, hidden, heads"),
        ({"config.layers": 3}, "layer.2.attention_norm.bias is missing"),
        ({"config.layers": 1}, "layer.1.attention_norm.bias is not expected"),
        ({"config.heads": 5}, "config.hidden must be a multiple of config.heads"),
        ({"config.norm_eps": 0.0}, "config.norm_eps is 0.0"),
        (
            {"config.activation": "swish"},
            "config.activation 'swish' is not supported; supported: gelu, gelu_tanh, relu",
        ),
        (
            {"config.pooling": "last"},
            "config.pooling 'last' is not supported; supported: mean, cls, max",
        ),
        ({"config.head": "mlp"}, "config.head 'mlp' is not supported; supported: none, linear"),
        ({"config.head": "linear"}, "config.labels must be 0 without a head and at least 1 with"),
        ({"config.segments": 2}, "config.separator must name a token if config.segments is 2"),
        ({"config.normalise": 1}, "config.normalise must be true or false"),
        ({"files": [{"name": "weights.safetensors", "size": 5}]}, "the manifest says 5; fetch it"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(
    manifest: dict[str, Any], tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    """By the name of what is wrong, with what is supported."""
    for name, value in change.items():
        if name.startswith("config."):
            manifest["config"][name.removeprefix("config.")] = value
        else:
            manifest[name] = value
    with pytest.raises(EngineError, match=text):
        load_engine(manifest, {"weights.safetensors": tmp_path / "out" / "weights.safetensors"})


def test_backends_threads_and_files_are_checked(manifest: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "out" / "weights.safetensors"
    with pytest.raises(EngineError, match="'rocm' is not supported; supported: auto, numpy, cupy"):
        load_engine(manifest, {"weights.safetensors": path}, backend="rocm")
    with pytest.raises(EngineError, match="threads is 0; it must be at least 1"):
        load_engine(manifest, {"weights.safetensors": path}, threads=0)
    with pytest.raises(EngineError, match=r"the model's files lack weights\.safetensors; given: a"):
        load_engine(manifest, {"a": path})
    load_engine(manifest, {"weights.safetensors": path}, backend="auto").close()


@pytest.mark.parametrize(
    "damage", ["empty", "short header", "not json", "outside", "cut", "wrong dtype", "too long"]
)
def test_damaged_weights_are_refused(manifest: dict[str, Any], tmp_path: Path, damage: str) -> None:
    """Never read past the end of a mapping, whatever the header says."""
    path = tmp_path / "out" / "weights.safetensors"
    data = path.read_bytes()
    changed = {
        "empty": b"",
        "short header": data[:5],
        "not json": data[:8] + b"!" + data[9:],
        "outside": data.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1),
        "cut": data[:-1],
        "wrong dtype": data.replace(b'"F32"', b'"F33"', 1),
        "too long": (1 << 60).to_bytes(8, "little") + data[8:],
    }[damage]
    path.write_bytes(changed)
    with pytest.raises(EngineError, match=r"weights\.safetensors"):
        load_engine(manifest, {"weights.safetensors": path})


def test_weights_that_are_not_finite_or_too_large_are_refused(
    manifest: dict[str, Any], tmp_path: Path
) -> None:
    """A hostile file cannot bring integers beyond the bounds of the exact products."""
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "out" / "weights.safetensors"
    for name, value, text in (
        ("layer.0.up.scale", np.nan, "layer.0.up.scale holds values that are not finite"),
        ("layer.1.down.weight", -32768, "layer.1.down.weight exceeds ±32639"),
    ):
        tensors = {key: np.array(tensor) for key, tensor in load_file(path).items()}
        kept = tensors[name].flat[0]
        tensors[name].flat[0] = value
        save_file(tensors, path)
        with pytest.raises(EngineError, match=text):
            load_engine(manifest, {"weights.safetensors": path})
        tensors[name].flat[0] = kept
        save_file(tensors, path)

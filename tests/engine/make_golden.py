"""Golden vectors: a fixed small model, fixed rows, and the digests of what they give.

``python tests/engine/make_golden.py`` writes golden.json anew. Do that only when the arithmetic
is meant to change: every manifest made before then means something else afterwards.
"""

from __future__ import annotations

import json
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from tiny_bert import packed, random_rows, write_tiny_bert

from gpu_worker.engine import SUPPORTED_NUMERICS, load_engine, quantise

GOLDEN = Path(__file__).with_name("golden.json")


def compute(folder: Path) -> dict[str, Any]:
    """The SHA-256 of the weights file and of every row's bytes, for each numerics."""
    model = write_tiny_bert(
        folder / "model", seed=2_024, layers=3, hidden=48, heads=3, intermediate=1200,
        vocabulary=500, positions=160,
    )  # fmt: skip
    rows = [*random_rows(11, 10, 160, 500), [0], [499] * 160]
    golden: dict[str, Any] = {}
    for numerics in SUPPORTED_NUMERICS:
        manifest = quantise(model, folder / numerics, numerics=numerics)
        path = folder / numerics / "weights.safetensors"
        engine = load_engine(manifest, {path.name: path}, threads=1)
        (chunk,) = engine.run("embed", *packed(rows), len(rows))
        engine.close()
        golden[numerics] = {
            "weights": sha256(path.read_bytes()).hexdigest(),
            "first_values": [value.hex() for value in chunk.values[0, :4].tolist()],
            "rows": [sha256(row.tobytes()).hexdigest()[:32] for row in chunk.values],
        }
    return golden


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps(compute(Path(folder)), indent=1) + "\n")

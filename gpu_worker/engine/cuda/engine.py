"""An encoder on one CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.cuda.ops import CudaOps
from gpu_worker.engine.encoder import Encoder
from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.encoderengine import Computed, EncoderEngine
from gpu_worker.engine.errors import OutOfMemory
from gpu_worker.engine.ops import Ops
from gpu_worker.engine.plan import MicroBatch, micro_batches

STREAMS: Final = 2
"""Threads, each with a stream of its own: while one computes, another copies."""
MOST_TOKENS: Final = 32_768
"""Of a micro-batch. Enough to fill the largest device there is; more only takes memory."""
LEAST_TOKENS: Final = 4_096
"""A micro-batch is not cut further for the sake of overlapping."""
_SHARE_OF_MEMORY: Final = 0.8


def bytes_per_token(config: EncoderConfig) -> int:
    """A generous estimate of what a token takes on the device while a layer is computed."""
    # A few float32 vectors, queries, keys and values as floats and as slices, the wide layer as
    # floats (twice in gated blocks) and as slices, and int32 sums of what is not fused.
    return 80 * config.hidden + 20 * config.intermediate + 1024


class CudaEngine(EncoderEngine):
    """Computes rows on one device, in micro-batches as large as its memory allows.

    Where memory lacks nevertheless, a micro-batch is halved, and later ones are smaller; a row
    that does not fit by itself raises ``OutOfMemory``. ``DeviceLost`` means that this process can
    compute no more.
    """

    def __init__(
        self,
        encoder: Encoder,
        make_ops: Callable[[], Ops],
        *,
        max_tokens: int,
        vocabulary: int,
    ) -> None:
        self._lock = Lock()
        self._made: list[CudaOps] = []
        self._make_one = make_ops
        free = self._make().free_bytes()
        fitting = int(free * _SHARE_OF_MEMORY / STREAMS / bytes_per_token(encoder.config))
        self._tokens = max(1, min(MOST_TOKENS, fitting))
        super().__init__(
            encoder,
            self._make,
            max_tokens=max_tokens,
            vocabulary=vocabulary,
            threads=STREAMS,
        )

    def stages(self) -> dict[str, float]:
        """Seconds so far by the device's clock: upload, compute, download.

        Streams overlap, so these may add up to more than the time that passed.
        """
        with self._lock:
            made = list(self._made)
        total = {"upload": 0.0, "compute": 0.0, "download": 0.0}
        for ops in made:
            for stage, seconds in ops.stages.items():
                total[stage] += seconds
        return total

    def _make(self) -> CudaOps:
        ops = self._make_one()
        assert isinstance(ops, CudaOps)
        with self._lock:
            self._made.append(ops)
        return ops

    def _cut(self, lengths: NDArray[np.uint32]) -> Iterator[MicroBatch]:
        small = int(lengths.sum(dtype=np.int64)) <= LEAST_TOKENS
        return micro_batches(lengths, 1 if small else STREAMS, self._tokens)

    def _compute(
        self, lengths: Sequence[int], tokens: NDArray[np.uint32], stopped: Callable[[], bool]
    ) -> Computed:
        """One micro-batch, in halves where memory lacks."""
        try:
            return super()._compute(lengths, tokens, stopped)
        except OutOfMemory as error:
            if len(lengths) == 1:
                raise OutOfMemory(
                    f"the device has too little memory for a row of {lengths[0]} tokens: {error}"
                ) from error
        # Here the arrays that the exception held are gone.
        ops: Any = getattr(self._own, "ops", None)
        if ops is not None:
            ops.trim()
        with self._lock:
            self._tokens = max(1, min(self._tokens, tokens.size // 2))
        middle = len(lengths) // 2
        cut = sum(lengths[:middle])
        first = self._compute(lengths[:middle], tokens[:cut], stopped)
        second = self._compute(lengths[middle:], tokens[cut:], stopped)
        return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])

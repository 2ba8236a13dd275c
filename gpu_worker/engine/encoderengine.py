"""An encoder on a pool of threads: micro-batches in, chunks of rows out, in order."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import islice
from threading import Event, local
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gpu_worker.engine.canary import check_float_unit
from gpu_worker.engine.encoder import Encoder, Stopped
from gpu_worker.engine.errors import EngineError, OutOfMemory
from gpu_worker.engine.interface import Chunk, Engine
from gpu_worker.engine.ops import Ops
from gpu_worker.engine.plan import MicroBatch, micro_batches
from gpu_worker.engine.rows import check_rows
from gpu_worker.engine.stopwatch import Stopwatch

_AHEAD: Final = 2
"""Micro-batches in hand for each thread, so that none waits for the consumer."""

Computed = tuple[NDArray[np.float32], NDArray[np.bool_]]


class EncoderEngine(Engine):
    """Computes rows on ``threads`` threads, each with scratch memory of its own.

    While it is open, the process's BLAS is held to one thread per call: a micro-batch per
    thread is faster than a product over all of them.
    """

    dtype = "<f4"

    def __init__(
        self,
        encoder: Encoder,
        make_ops: Callable[[], Ops],
        *,
        max_tokens: int,
        vocabulary: int,
        threads: int,
    ) -> None:
        self.width = encoder.config.width
        self._encoder = encoder
        self._make_ops = make_ops
        self._max_tokens = max_tokens
        self._vocabulary = vocabulary
        self._threads = threads
        self._own = local()
        self._stopwatches: list[Stopwatch] = []
        self._closed = Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")
        self._limits = threadpool_limits(limits=1, user_api="blas")

    def run(
        self,
        operation: str,
        lengths: NDArray[np.uint32],
        tokens: NDArray[np.uint32],
        rows_per_chunk: int,
    ) -> Iterator[Chunk]:
        """See ``Engine.run``; the operation is the one that the model's config says."""
        if self._closed.is_set():
            raise EngineError("this engine is closed")
        check_rows(
            operation, (self._encoder.config.operation,), lengths, tokens, rows_per_chunk,
            self._max_tokens, self._vocabulary,
        )  # fmt: skip
        return self._chunks(lengths, tokens, rows_per_chunk)

    def warm_up(self) -> None:
        """Compute two rows of nothing in particular, so that everything is compiled and in place.

        Raises ``EngineError`` as ``run`` does.
        """
        lengths = np.array([min(2, self._max_tokens), 1], np.uint32)
        tokens = np.zeros(int(lengths.sum(dtype=np.int64)), np.uint32)
        for _ in self._chunks(lengths, tokens, 2):
            pass

    def stages(self) -> dict[str, float]:
        """See ``Engine.stages``; threads work side by side, so the sum may exceed the clock's."""
        total: dict[str, float] = {}
        for stopwatch in list(self._stopwatches):
            for stage, seconds in stopwatch.seconds.items():
                total[stage] = total.get(stage, 0.0) + seconds
        return total

    def close(self) -> None:
        """Stop the work in progress between two layers and end the threads."""
        if not self._closed.is_set():
            self._closed.set()
            self._pool.shutdown(cancel_futures=True)
            self._limits.restore_original_limits()

    def _chunks(
        self, lengths: NDArray[np.uint32], tokens: NDArray[np.uint32], step: int
    ) -> Iterator[Chunk]:
        rows = int(lengths.size)
        first, values, failed = 0, np.empty((min(step, rows), self.width), np.float32), list[int]()
        for start, some, bad in self._pieces(lengths, tokens):
            taken = 0
            while taken < len(some):
                place = start + taken - first
                count = min(len(some) - taken, len(values) - place)
                values[place : place + count] = some[taken : taken + count]
                failed += (place + np.flatnonzero(bad[taken : taken + count])).tolist()
                taken += count
                if place + count == len(values):
                    yield Chunk(first, values, tuple(failed))
                    first += len(values)
                    values = np.empty((min(step, rows - first), self.width), np.float32)
                    failed = []

    def _pieces(
        self, lengths: NDArray[np.uint32], tokens: NDArray[np.uint32]
    ) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
        """Results of micro-batches in order: first row, values, failed."""
        given_up = Event()
        waiting: deque[tuple[int, Future[Computed]]] = deque()
        batches = self._cut(lengths)

        def stopped() -> bool:
            return given_up.is_set() or self._closed.is_set()

        def submit(batch: MicroBatch) -> None:
            work = self._pool.submit(
                self._compute,
                lengths[batch.start : batch.stop].tolist(),
                tokens[batch.first_token : batch.last_token],
                stopped,
            )
            waiting.append((batch.start, work))

        try:
            for batch in islice(batches, _AHEAD * self._threads):
                submit(batch)
            while waiting:
                start, work = waiting.popleft()
                values, failed = work.result()
                for batch in islice(batches, 1):
                    submit(batch)
                yield start, values, failed
        except (Stopped, CancelledError, RuntimeError) as error:
            if not self._closed.is_set():
                raise
            raise EngineError("this engine was closed while it worked") from error
        finally:
            given_up.set()
            for _, work in waiting:
                work.cancel()

    def _cut(self, lengths: NDArray[np.uint32]) -> Iterator[MicroBatch]:
        """The rows in micro-batches."""
        return micro_batches(lengths, self._threads)

    def _compute(
        self, lengths: Sequence[int], tokens: NDArray[np.uint32], stopped: Callable[[], bool]
    ) -> Computed:
        """One micro-batch; where memory lacks, its halves one after the other."""
        try:
            return self._encode(lengths, tokens, stopped)
        except MemoryError as error:
            if len(lengths) == 1:
                raise OutOfMemory(
                    f"too little memory for a row of {lengths[0]} tokens; give the engine fewer "
                    "threads, or offer the model with shorter rows"
                ) from error
        # Here the arrays that the exception held are gone; the scratch memory may go too.
        self._own.ops = None
        gc.collect()
        middle = len(lengths) // 2
        cut = sum(lengths[:middle])
        first = self._compute(lengths[:middle], tokens[:cut], stopped)
        second = self._compute(lengths[middle:], tokens[cut:], stopped)
        return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])

    def _encode(
        self, lengths: Sequence[int], tokens: NDArray[np.uint32], stopped: Callable[[], bool]
    ) -> Computed:
        """Rows sorted by length so that equal lengths meet, back in their order."""
        check_float_unit()
        ops = self._ops()
        sizes = np.asarray(lengths, np.int64)
        order = np.argsort(-sizes, kind="stable")
        starts = np.cumsum(sizes, dtype=np.int64) - sizes
        picked = np.concatenate([np.arange(starts[i], starts[i] + sizes[i]) for i in order])
        sorted_values, sorted_failed = self._encoder.encode(
            ops, tokens[picked], sizes[order].tolist(), stopped
        )
        values, failed = np.empty_like(sorted_values), np.empty_like(sorted_failed)
        values[order], failed[order] = sorted_values, sorted_failed
        return values, failed

    def _ops(self) -> Ops:
        """The calling thread's operations."""
        ops: Ops | None = getattr(self._own, "ops", None)
        if ops is None:
            ops = self._own.ops = self._make_ops()
            self._stopwatches.append(Stopwatch(ops))
        return ops

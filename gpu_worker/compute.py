"""Shares into parts: the engine runs off the event loop, one part after the other."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from gpu_worker.config import RigConfig
from gpu_worker.engine import EngineError
from gpu_worker.models import Models, Offload, StagedModel
from gpu_worker.sharebook import Share, ShareBook
from gpu_worker.telemetry import Telemetry

log = structlog.get_logger()

_UNMEASURED_ROWS = 32
"""Rows in a part before the model's speed on this machine is known."""
_FAILURES_TOLERATED = 3
"""Shares of one model that fail in a row before the model is given up."""


class PartSizer:
    """Rows per part, so that a part is small enough to send, to lose and to wait for."""

    def __init__(self, config: RigConfig) -> None:
        self._config = config
        self._most_bytes = config.part_bytes
        self._speeds: dict[str, float] = {}  # {model digest: tokens a second, smoothed}

    def fit(self, max_frame: int) -> None:
        """Keep parts below the longest frame that the pool takes, with room for what is around."""
        self._most_bytes = min(self._config.part_bytes, max_frame - 4096)

    def rows(self, share: Share, row_bytes: int) -> int:
        """Rows for each part of this share; at least 1."""
        most = max(1, min(self._config.part_rows, self._most_bytes // row_bytes))
        speed = self._speeds.get(share.model)
        if speed is None:
            return min(most, _UNMEASURED_ROWS)
        tokens_a_row = max(1.0, len(share.tokens) / share.rows)
        return max(1, min(most, int(speed * self._config.part_seconds / tokens_a_row)))

    def measured(self, model: str, tokens: int, seconds: float) -> None:
        """Take note of a part that took ``seconds``."""
        if seconds <= 0.0 or tokens == 0:
            return
        speed = tokens / seconds
        known = self._speeds.get(model, speed)
        self._speeds[model] = known + 0.25 * (speed - known)


class Computer:
    """Computes shares of a book one after another.

    ``offload`` runs one step of the engine; it is ``trio.to_thread.run_sync`` unless a
    simulation wants the step to run inline on a virtual clock. ``changed`` is called when there
    is something to send.
    """

    def __init__(
        self,
        config: RigConfig,
        models: Models,
        offload: Offload,
        telemetry: Telemetry,
        changed: Callable[[], None],
    ) -> None:
        self._models = models
        self._offload = offload
        self._telemetry = telemetry
        self._changed = changed
        self.sizer = PartSizer(config)

    async def compute(self, book: ShareBook, share: Share) -> None:
        """Compute a share to its end, or until it is dropped; failures release it."""
        model = self._models[share.model]
        if model is None or model.engine is None:
            self._give_back(book, share, "unknown_model")
            return
        self._models.set_busy(model, True)
        try:
            await self._run(book, share, model)
        except EngineError as error:
            self._failed(book, share, model, "compute_failed", str(error))
        except MemoryError:
            self._failed(book, share, model, "out_of_memory", "the share needs too much memory")
        except Exception as error:
            # An engine's bug costs the share, not the rig's other models.
            log.exception("engine failed", lease=share.lease)
            self._failed(book, share, model, "compute_failed", f"{type(error).__name__}: {error}")
        else:
            if share.computed:
                model.failures_in_a_row = 0
        finally:
            self._models.set_busy(model, False)

    async def _run(self, book: ShareBook, share: Share, model: StagedModel) -> None:
        assert model.engine is not None
        rows = self.sizer.rows(share, model.row_bytes)
        chunks = iter(
            await self._offload(
                model.engine.run, share.operation, share.lengths, share.tokens, rows
            )
        )
        while not share.dropped and not share.computed:
            started = trio.current_time()
            chunk = await self._offload(next, chunks, None)
            seconds = trio.current_time() - started
            if chunk is None:
                raise EngineError(f"it stopped after {share.rows_computed} of {share.rows} rows")
            first, count = share.rows_computed, len(chunk.values)
            if chunk.first_row != first:
                raise EngineError(f"it computed row {chunk.first_row} where {first} was due")
            tokens = int(share.lengths[first : first + count].sum())
            self.sizer.measured(share.model, tokens, seconds)
            self._telemetry.busy_seconds["compute"] += seconds
            self._telemetry.rows += count
            self._telemetry.tokens += tokens
            if book.add_part(share, chunk.values, tuple(chunk.failed)) is not None:
                self._changed()
        close = getattr(chunks, "close", None)
        if close is not None:
            close()

    def _failed(
        self, book: ShareBook, share: Share, model: StagedModel, reason: str, words: str
    ) -> None:
        log.error("share failed", lease=share.lease, model=share.model[:12], reason=words)
        self._give_back(book, share, reason)
        model.failures_in_a_row += 1
        if model.failures_in_a_row >= _FAILURES_TOLERATED:
            self._models.fail(model, reason, f"it failed on {_FAILURES_TOLERATED} shares: {words}")

    def _give_back(self, book: ShareBook, share: Share, reason: str) -> None:
        if not share.dropped:
            book.release(share.lease, reason)
            self._telemetry.shares_lost["released"] += 1
        self._changed()

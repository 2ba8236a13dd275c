"""Shares into parts: their rows are dealt to the devices, and put together again in order.

A pool sees one fast rig: with several devices each takes some of a share's rows, so that all of
them have work however few shares there are. A row's bits do not depend on who computes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
import trio

from gpu_worker.config import RigConfig
from gpu_worker.devices.base import Computed, Device, Rows, Run
from gpu_worker.devices.seats import Seat
from gpu_worker.engine import DeviceLost, EngineError, OutOfMemory
from gpu_worker.models import Models
from gpu_worker.partsizer import PartSizer
from gpu_worker.sharebook import Share, ShareBook
from gpu_worker.telemetry import Telemetry

log = structlog.get_logger()

_FAILURES_TOLERATED = 3
"""Shares of one model that fail in a row on one device before it is given up there."""


@dataclass(slots=True, eq=False)
class _Piece:
    """Consecutive rows of a share for one device: ``first`` to ``stop``, ``done`` of them here."""

    first: int
    stop: int
    seat: Seat
    device: Device
    run: Run
    done: int = 0
    chunks: deque[Computed] = field(default_factory=deque)  # not yet made parts


@dataclass(slots=True, eq=False)
class _Assembly:
    """A share and the pieces that it was cut into, in the order of its rows."""

    book: ShareBook
    share: Share
    pieces: deque[_Piece] = field(default_factory=deque)


class Computer:
    """Deals the rows of a book's shares to the devices that have room.

    ``changed`` is called when there is something to send.
    """

    def __init__(
        self,
        config: RigConfig,
        models: Models,
        seats: Sequence[Seat],
        telemetry: Telemetry,
        changed: Callable[[], None],
    ) -> None:
        self._models = models
        self._seats = seats
        self._telemetry = telemetry
        self._changed = changed
        self._assemblies: dict[Share, _Assembly] = {}
        self.sizer = PartSizer(config)

    def deal(self, book: ShareBook, nursery: trio.Nursery) -> None:
        """Give every device that has room rows of the oldest share that it can compute."""
        for share in book.undealt():
            if self._models[share.model] is None:
                self._give_back(book, share, "unknown_model")
        # First something for everybody, then a second helping that waits in the device.
        deepest = max((seat.device.depth for seat in self._seats if seat.device), default=0)
        for depth in range(1, deepest + 1):
            for seat in self._seats:
                if seat.device is not None and seat.runs < min(depth, seat.device.depth):
                    self._deal_to(seat, book, nursery)

    def _deal_to(self, seat: Seat, book: ShareBook, nursery: trio.Nursery) -> None:
        for share in book.undealt():
            if share.model not in seat.engines:
                continue
            try:
                piece = self._cut(seat, share)
            except DeviceLost:
                return  # the seat is about to learn it too
            assembly = self._assemblies.get(share)
            if assembly is None:
                assembly = self._assemblies[share] = _Assembly(book, share)
            assembly.pieces.append(piece)
            share.when_dropped.append(piece.run.cancel)
            seat.runs += 1
            nursery.start_soon(self._compute, assembly, piece)
            return

    def _cut(self, seat: Seat, share: Share) -> _Piece:
        """Give a device the next rows of a share, as many as it should take at once."""
        device, model = seat.device, self._models[share.model]
        assert device is not None
        assert model is not None
        first, left = share.rows_dealt, share.rows - share.rows_dealt
        others = sum(share.model in other.engines for other in self._seats)
        rows = left if others == 1 else self.sizer.piece_rows(seat.spec.index, share, others)
        stop = first + min(rows, left)
        lengths = share.lengths[first:stop]
        token = int(share.lengths[:first].sum(dtype="u8"))
        run = device.begin(
            Rows(
                seat.engines[share.model],
                share.operation,
                lengths,
                share.tokens[token : token + int(lengths.sum(dtype="u8"))],
                self.sizer.rows(seat.spec.index, share, model.row_bytes),
            ),
            partial(setattr, share, "started", True),
        )
        share.rows_dealt = stop
        return _Piece(first, stop, seat, device, run)

    async def _compute(self, assembly: _Assembly, piece: _Piece) -> None:
        """Compute a piece to its end, or until its share is dropped; failures release it."""
        share, seat = assembly.share, piece.seat
        try:
            await self._run(assembly, piece)
        except DeviceLost as error:
            self._give_back(assembly.book, share, "compute_failed", f"{seat.spec.name}: {error}")
        except OutOfMemory as error:
            self._failed(assembly, seat, "out_of_memory", str(error))
        except EngineError as error:
            self._failed(assembly, seat, "compute_failed", str(error))
        except MemoryError:
            self._failed(assembly, seat, "out_of_memory", "the share needs too much memory")
        except Exception as error:
            # An engine's bug costs the share, not the rig's other models.
            log.exception("engine failed", lease=share.lease)
            self._failed(assembly, seat, "compute_failed", f"{type(error).__name__}: {error}")
        else:
            if not share.dropped:
                seat.failures.pop(share.model, None)
        finally:
            if seat.device is piece.device:  # and no successor that began with none
                seat.runs -= 1
            if piece.run.cancel in share.when_dropped:
                share.when_dropped.remove(piece.run.cancel)
            if share.dropped or share.computed:
                self._assemblies.pop(share, None)
            self._changed()

    async def _run(self, assembly: _Assembly, piece: _Piece) -> None:
        share = assembly.share
        while (computed := await piece.run.next()) is not None:
            self._check(piece, computed)
            self._count(share, piece, computed)
            piece.chunks.append(computed)
            self._assemble(assembly)
        if not share.dropped and piece.first + piece.done < piece.stop:
            done = piece.first + piece.done
            raise EngineError(f"it stopped after {done} of {share.rows} rows")

    @staticmethod
    def _check(piece: _Piece, computed: Computed) -> None:
        """An engine that skips or invents rows is not believed."""
        chunk, left = computed.chunk, piece.stop - piece.first - piece.done
        if chunk.first_row != piece.done:
            raise EngineError(
                f"it computed row {piece.first + chunk.first_row} "
                f"where {piece.first + piece.done} was due"
            )
        if not 0 < len(chunk.values) <= left:
            raise EngineError(f"it computed {len(chunk.values)} rows where {left} were left")

    def _count(self, share: Share, piece: _Piece, computed: Computed) -> None:
        seat = piece.seat
        first, count = piece.first + piece.done, len(computed.chunk.values)
        tokens = int(share.lengths[first : first + count].sum(dtype="u8"))
        piece.done += count
        self.sizer.measured(seat.spec.index, share.model, tokens, computed.seconds)
        device = seat.telemetry
        device.rows += count
        device.tokens += tokens
        device.busy_seconds += computed.seconds
        self._telemetry.busy_seconds["compute"] += computed.seconds
        self._telemetry.rows += count
        self._telemetry.tokens += tokens

    def _assemble(self, assembly: _Assembly) -> None:
        """Make parts of the chunks whose predecessors are all there."""
        pieces, made = assembly.pieces, False
        while pieces:
            piece = pieces[0]
            while piece.chunks:
                chunk = piece.chunks.popleft().chunk
                part = assembly.book.add_part(
                    assembly.share, chunk.values, tuple(chunk.failed), piece.seat.spec.index
                )
                made = made or part is not None
            if piece.first + piece.done < piece.stop:
                break
            pieces.popleft()
        if made:
            self._changed()

    def _failed(self, assembly: _Assembly, seat: Seat, reason: str, words: str) -> None:
        share = assembly.share
        if share.dropped:
            return  # another of its pieces failed before, or nobody wants it any more
        log.error("share failed", lease=share.lease, device=seat.spec.name, reason=words)
        self._give_back(assembly.book, share, reason)
        seat.failures[share.model] += 1
        if seat.failures[share.model] >= _FAILURES_TOLERATED:
            told = f"it failed on {_FAILURES_TOLERATED} shares: {words}"
            self._models.refuse(seat, share.model, reason, told)

    def _give_back(self, book: ShareBook, share: Share, reason: str, words: str = "") -> None:
        if not share.dropped:
            log.info("share handed back", lease=share.lease, reason=reason, text=words)
            book.release(share.lease, reason)
            self._telemetry.shares_lost["released"] += 1
        self._changed()

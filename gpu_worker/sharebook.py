"""The shares in a rig's hands and the parts that the pool has not acknowledged. No I/O.

A part is kept until the pool says that it is durable, so that neither a lost connection nor a
pool that restarts costs what was computed. Lease numbers belong to one pool: a rig keeps a book
for each pool it has worked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class Part:
    """Computed rows of a share: ``values`` [rows, width], ``failed`` positions in the part.

    ``device`` is the index of the device that computed them.
    """

    lease: int
    number: int
    first_row: int
    final: bool
    values: NDArray[Any]
    failed: tuple[int, ...]
    device: int = 0


@dataclass(slots=True, eq=False)
class Share:
    """Rows leased to this rig: ``lengths`` uint32 [rows], ``tokens`` uint32 [sum(lengths)]."""

    lease: int
    model: str
    operation: str
    lengths: NDArray[np.uint32]
    tokens: NDArray[np.uint32]
    started: bool = False
    """Whether a device has turned to it."""
    dropped: bool = False
    """Set when the result is no longer wanted."""
    when_dropped: list[Callable[[], None]] = field(default_factory=list)
    """Called when it is dropped: whoever computes stops."""
    rows_dealt: int = 0
    """Rows that were given to devices."""
    rows_computed: int = 0
    """Rows that are in parts."""
    parts_made: int = 0
    unacknowledged: dict[int, Part] = field(default_factory=dict)  # {number: part}, in order

    @property
    def rows(self) -> int:
        """Rows in the share."""
        return len(self.lengths)

    @property
    def computed(self) -> bool:
        """Whether every row has its result."""
        return self.rows_computed == self.rows


class ShareBook:
    """What a rig owes one pool: shares to compute, parts to send, shares to hand back."""

    def __init__(self) -> None:
        self._shares: dict[int, Share] = {}  # {lease: share}, in the order they came
        self._outbox: deque[Part] = deque()  # computed, not yet sent in this session
        self._releases: dict[int, str] = {}  # {lease: reason}, not yet answered by the pool

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[Share]:
        return iter(list(self._shares.values()))

    def __contains__(self, lease: int) -> bool:
        return lease in self._shares

    @property
    def unacknowledged_bytes(self) -> int:
        """Bytes of results that the pool has not acknowledged."""
        return sum(
            part.values.nbytes
            for share in self._shares.values()
            for part in share.unacknowledged.values()
        )

    def take(
        self,
        lease: int,
        model: str,
        operation: str,
        lengths: NDArray[np.uint32],
        tokens: NDArray[np.uint32],
    ) -> Share | None:
        """Add a share; None when the book has it already (the pool sent it again).

        Raises ``ValueError`` when the lengths do not add up to the tokens.
        """
        if lease in self._shares:
            return None
        if lengths.ndim != 1 or tokens.ndim != 1 or len(lengths) == 0:
            raise ValueError("lengths and tokens must be one-dimensional, with one row at least")
        total = int(lengths.sum(dtype=np.uint64))
        if total != len(tokens):
            raise ValueError(f"the lengths add up to {total} tokens, but {len(tokens)} came")
        self._releases.pop(lease, None)
        share = Share(lease, model, operation, lengths, tokens)
        self._shares[lease] = share
        return share

    def undealt(self) -> Iterator[Share]:
        """Shares of which no device has some rows yet, the oldest first."""
        return (share for share in list(self._shares.values()) if share.rows_dealt < share.rows)

    def add_part(
        self, share: Share, values: NDArray[Any], failed: tuple[int, ...], device: int = 0
    ) -> Part | None:
        """Add the next rows of a share, computed by ``device``; None when it was dropped meanwhile.

        Raises ``ValueError`` when there are no rows, or more than the share has left.
        """
        if share.dropped:
            return None
        left = share.rows - share.rows_computed
        if not 0 < len(values) <= left:
            raise ValueError(f"{len(values)} rows were computed where {left} were left")
        first_row = share.rows_computed
        share.rows_computed += len(values)
        part = Part(
            share.lease, share.parts_made, first_row, share.computed, values, failed, device
        )
        share.parts_made += 1
        share.unacknowledged[part.number] = part
        self._outbox.append(part)
        return part

    def next_unsent(self) -> Part | None:
        """The next part to send, in order, now counted as sent in this session."""
        while self._outbox:
            part = self._outbox.popleft()
            if not self._gone(part):
                return part
        return None

    def acknowledge(self, part: Part) -> Share | None:
        """The pool has the part for good. Returns the share when that was the last of it."""
        share = self._shares.get(part.lease)
        if share is None or share.unacknowledged.get(part.number) is not part:
            return None
        del share.unacknowledged[part.number]
        if share.unacknowledged or not share.computed:
            return None
        del self._shares[share.lease]
        return share

    def drop(self, lease: int) -> Share | None:
        """Forget a share, its parts and its computation; None when it is not in the book."""
        share = self._shares.pop(lease, None)
        if share is not None:
            share.dropped = True
            share.unacknowledged.clear()
            for stop in share.when_dropped:
                stop()
            share.when_dropped.clear()
        return share

    def release(self, lease: int, reason: str) -> Share | None:
        """Drop a share and note that the pool must be told, in this session or a later one."""
        self._releases[lease] = reason
        return self.drop(lease)

    @property
    def releases(self) -> dict[int, str]:
        """{lease: reason} of shares handed back, until the pool has answered."""
        return dict(self._releases)

    def released(self, lease: int) -> None:
        """The pool has answered a release."""
        self._releases.pop(lease, None)

    def disconnected(self) -> None:
        """The session is over: whatever is unacknowledged is to be sent again, in order."""
        self._outbox = deque(
            part for share in self._shares.values() for part in share.unacknowledged.values()
        )

    def _gone(self, part: Part) -> bool:
        share = self._shares.get(part.lease)
        return share is None or share.unacknowledged.get(part.number) is not part

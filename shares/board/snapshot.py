"""What the store hands the board after a restart: everything that is open, nothing that is over."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shares.blocks import Segment
from shares.board.effects import TrustChanged, Won


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBlock:
    """A block that is not cleared (blocks never asked for need not be here)."""

    block: int
    lengths: NDArray[np.int32]
    works: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJob:
    """A job that is neither completed, cancelled nor expired. Fields as in ``JobOpened``."""

    job: int
    account: str
    model: str
    operation: str
    direct: bool
    blocks: int
    rows: int
    work: int
    price: int
    check_left: int  # units of its check budget not yet credited
    row_bytes: int
    cleared_blocks: frozenset[int]
    open_blocks: tuple[OpenBlock, ...]  # every block that has leases, parts or checks
    cancelled: str = ""  # the reason, when it is being cancelled
    created: float = 0.0
    check_budget: int | None = None  # the whole of it; without it ``check_left`` stands in
    cleared_rows: int = 0  # in cleared blocks
    cleared_work: int = 0  # in cleared blocks
    assurance_ppm: int = 0
    trusted: bool = False
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """An accepted part of a share without a verdict, or of an open block."""

    part: int
    first_row: int
    rows: int
    digests: bytes
    won: tuple[Won, ...]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredit:
    """A credit of a share without a verdict."""

    part: int
    job: int
    kind: str
    source: str
    work: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLease:
    """A lease that is open, or whose share has no verdict, or that won rows of an open block."""

    lease: int
    account: str
    rig: str
    model: str
    operation: str
    segments: tuple[Segment, ...]
    work: int
    difficulty: int
    issued: float
    deadline: float
    state: str  # "open", or LeaseEnded's state
    verdict: str  # "open", "accepted", "cleared" ("rejected" and "void" shares are left out)
    parts: tuple[StoredPart, ...]
    credits: tuple[StoredCredit, ...]
    suspect: bool = False  # every row that comes of it is checked
    # (row of the share, wrong, for which witnesses were asked; their kind of device)
    trial: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecount:
    """A rejected share whose rows the referee was computing."""

    lease: StoredLease
    row: int  # of the share: the one that was found wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheck:
    """A check drawn and not ended."""

    check: int
    by: str
    lease: int
    part: int
    job: int
    block: int
    row: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All of it."""

    boot: int  # raised at every start; lease and check ids begin at boot << 32
    reserve: int
    jobs: tuple[OpenJob, ...] = ()
    leases: tuple[StoredLease, ...] = ()
    checks: tuple[StoredCheck, ...] = ()
    trust: tuple[TrustChanged, ...] = field(default=())
    recounts: tuple[StoredRecount, ...] = ()
    suspected_blocks: tuple[tuple[str, float], ...] = ()  # (network block, until)
    # (account, lease, model, kind, wrong rows) of shares that were excused and not decided on
    excused: tuple[tuple[str, int, str, str, int], ...] = ()

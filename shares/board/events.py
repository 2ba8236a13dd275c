"""What can happen to the board. Time, ids and randomness arrive in events; payloads never do.

``at`` is seconds since the epoch by the pool's clock (monotonic within a run).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shares.board.effects import ComparisonWanted
from shares.nearness import Nearness


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, and when."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """Time passed: deadlines, windows, hedges and vardiff are looked at (about once a second).

    ``stalled``: seconds since the last tick in which the pool kept its rigs waiting (for its disk,
    say). Deadlines move by as much: the pool's own stalls never count against a rig.
    """

    stalled: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochOpened(Event):
    """From now on parts are sampled under this secret key (32 bytes)."""

    epoch: int
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveChanged(Event):
    """The reserve gained (or lost) this many units outside the board: seeded, or a levy's rest."""

    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReleased(Event):
    """Held pay above the minimum hold became available: take it off what the rig stands to lose."""

    account: str
    rig: str
    units: int


# ── jobs ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOpened(Event):
    """A job's price is reserved and its blocks are packed: it may be worked on."""

    job: int
    account: str  # the customer's
    model: str  # manifest digest, hex
    operation: str
    direct: bool  # an interactive request: goes first, no clearing window
    blocks: int
    rows: int
    work: int
    price: int  # units of pay per unit of work
    check_budget: int  # units reserved for checks of this job
    row_bytes: int  # bytes of one row's result
    trusted: bool = False  # only rigs on the operator's list see its rows
    assurance_ppm: int = 0  # each row is checked with this chance at least; it is in check_budget
    exact: bool = True  # honest results are the same bits; else they are near (``shares.nearness``)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOpened(Event):
    """The block that ``BlockWanted`` asked for was read: its rows can be leased."""

    job: int
    block: int
    lengths: NDArray[np.int32]  # tokens of each row, longest first
    works: NDArray[np.int64]  # work of each row


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled(Event):
    """No new leases; leased parts that arrive within their deadline are still paid.

    Also used for expiry (``reason="expired"``). When nothing of the job is in flight any more
    the board answers with ``JobClosed``.
    """

    job: int
    reason: str = "cancelled"


# ── rigs ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(Event):
    """A rig is authorised. One rig has at most one session: an older one is disconnected."""

    session: int
    account: str
    rig: str
    credit: int  # shares it is willing to hold at once
    group: str = ""  # its network block; "" for loopback
    payees: tuple[str, ...] = ()  # payout addresses of its account, those of late too
    kinds: tuple[str, ...] = ()  # of its devices, each once, as it says
    suggested: int = 0  # difficulty it asked for; 0: none
    resumed: bool = True  # False: it lost its shares (a new process); they open again at once


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed(Event):
    """The connection is gone. Leases stay the rig's for a grace period, then open again."""

    session: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountClosed(Event):
    """A miner's account was closed: its rigs get no more shares, finish those they hold, and are
    sent away then.
    """

    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DifficultySuggested(Event):
    """``mining.suggest_difficulty``."""

    session: int
    work: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStaged(Event):
    """The rig has this model's weights in place and can take its shares."""

    session: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUnstaged(Event):
    """The rig cannot (any longer) compute this model."""

    session: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSubmitted(Event):
    """A part that the gateway decoded and found to have the right shape, dtype and finite values.

    ``request`` is the submit's request id, answered by ``Accepted`` or ``Refused``. ``digests``
    has 16 bytes a row (see ``shares.results``). ``payload`` is a handle that the board only
    passes on.
    """

    session: int
    request: int
    lease: int
    part: int
    first_row: int  # row of the share, from 0
    rows: int
    final: bool
    digests: bytes
    payload: int
    size: int  # bytes of the payload


@dataclass(frozen=True, slots=True, kw_only=True)
class PartMalformed(Event):
    """A part of wrong shape, dtype, length or with values that are not finite.

    The lease ends (nobody's money), its rows open again.
    """

    session: int
    request: int
    lease: int
    reason: str  # a documented reason code, such as "wrong_shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseReleased(Event):
    """The rig hands the rest of a share back (it is stopping, or cannot compute it)."""

    session: int
    request: int
    lease: int
    reason: str


# ── the pool's own doing ─────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class RefereeAnswered(Event):
    """The referee computed rows of one block. ``digests``: 16 bytes a row, in ``rows``' order."""

    job: int
    block: int
    rows: tuple[int, ...]
    digests: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsCompared(Event):
    """Answers to orders to compare results, many at once where they come so."""

    found: tuple[tuple[ComparisonWanted, Nearness], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRefuted(Event):
    """Rows that the hold of a closed account covers are wrong.

    ``rows``: (lease, job, block, row, given, expected), digests; ``price``: units a unit of work.
    """

    account: str
    rig: str
    rows: tuple[tuple[int, int, int, int, bytes, bytes], ...]
    price: int


@dataclass(frozen=True, slots=True)
class RigRecord:
    """What was found of a rig comes to this (see ``shares.trust.record``)."""

    rig: str
    isolated: int
    offences: int
    banned_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AppealWon(Event):
    """The referee, run again, gave a rejected share's digests: its rig was right.

    ``rows``: (job, block, row, digest) of those that it had found wrong. ``units``: what its rig
    gets back. ``before``, ``after``: the records of the account's rigs, in the same order, with
    what was found of the share and without it.
    """

    account: str
    rig: str
    lease: int
    rows: tuple[tuple[int, int, int, bytes], ...]
    units: int
    before: tuple[RigRecord, ...]
    after: tuple[RigRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindsQuarantined(Event):
    """The operator keeps kinds of devices from models. Replaces what was so before."""

    kinds: frozenset[tuple[str, str]]  # (model, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcuseEnded(Event):
    """The operator decided on a share whose wrong rows had been put down to its kind of device.

    ``rows``, ``price``: as in ``ShareExcused``. ``guilty``: they were the rig's own doing.
    """

    account: str
    rig: str
    lease: int
    rows: int
    price: int
    guilty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasingPaused(Event):
    """Too many bytes wait for commit: cut no new shares (``paused``), or go on."""

    paused: bool

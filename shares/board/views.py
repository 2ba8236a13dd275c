"""What may be seen of a board: read-only facts for pages, metrics and customers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionView:
    """A connected rig."""

    session: int
    account: str
    rig: str
    group: str
    credit: int
    models: tuple[str, ...]  # staged
    difficulty: int  # work of one share
    rate: float | None  # measured work a second; None before its first part
    leases: int  # shares in its hands
    in_hand: int  # work of them not yet accepted
    unjudged: int  # shares accepted in part and not judged


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far an open job is. Work and rows that count; a rejected share takes its own back."""

    job: int
    account: str
    model: str
    operation: str
    direct: bool
    cancelled: str
    rows: int
    accepted_rows: int
    cleared_rows: int
    work: int
    accepted_work: int
    cleared_work: int
    rate: float  # accepted work a second, recently
    eta: float | None  # seconds until all is accepted; None while nothing moves
    check_left: int  # units of its check budget that are not spent or promised


@dataclass(frozen=True, slots=True)
class TrustView:
    """One rig's standing and its present sampling rates (at a price of 1).

    The rates are those for models it is established with, when there are any.
    """

    account: str
    rig: str
    established: bool  # with a model at least
    held: int
    accepted_rows: int
    accepted_work: int
    cleared_shares: int
    cleared_work: int
    rejected_shares: int
    isolated: int
    offences: int
    banned_until: float
    check_rate_ppm: int
    referee_rate_ppm: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The board as a whole."""

    rigs: int  # connected
    rate: float  # their work a second, measured or assumed
    jobs: int
    blocks: int  # in memory
    leases: int  # open
    unjudged: int  # shares that ended and wait for their verdict
    open_work: int  # not leased, in open jobs
    leased_work: int  # in rigs' hands
    checks: int  # drawn and not ended
    checks_due: int  # of them waiting for a rig
    referee_rows: int  # that the referee was asked for
    reserve: int  # units free for checks
    paused: bool

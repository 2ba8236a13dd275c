"""What the board asks for. Records are made durable; orders are carried out.

The app hands the records of one ``handle`` call to the same commit group, in order, and holds
messages back until the group that precedes them is durable.
"""

from __future__ import annotations

from dataclasses import dataclass

from shares.blocks import Segment


class Effect:
    """Anything ``Board.handle`` returns."""

    __slots__ = ()


class Record(Effect):
    """Must be durable before any message that follows it leaves the pool."""

    __slots__ = ()


class Message(Effect):
    """To one session, released in order once what precedes it is durable."""

    __slots__ = ()


class Order(Effect):
    """Something for the app to start."""

    __slots__ = ()


# ── records ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LeaseIssued(Record):
    """A share was cut."""

    lease: int
    account: str
    rig: str
    model: str
    operation: str
    segments: tuple[Segment, ...]
    rows: int
    work: int
    difficulty: int  # what vardiff said when it was cut
    issued: float
    deadline: float


@dataclass(frozen=True, slots=True)
class LeaseEnded(Record):
    """No more parts are expected: ``done``, ``expired``, ``released``, ``malformed``,
    ``cancelled``. ``fault`` is ``none``, ``rig``, ``network`` or ``pool``; it never costs money.
    """

    lease: int
    state: str
    fault: str
    at: float


@dataclass(frozen=True, slots=True)
class LeaseSuspected(Record):
    """The lease's rig was wrong elsewhere: every row that comes of it is checked."""

    lease: int


@dataclass(frozen=True, slots=True)
class Won(Effect):
    """Rows ``start:stop`` of a block are (for now) this part's: its rows from ``first_row`` on."""

    job: int
    block: int
    start: int
    stop: int
    first_row: int  # row of the part, from 0


@dataclass(frozen=True, slots=True)
class PartAccepted(Record):
    """A part's bytes go to the result log, its row to the store. The draw is made here."""

    lease: int
    part: int
    first_row: int  # row of the share
    rows: int
    payload: int  # the handle of PartSubmitted
    digests: bytes
    digest: bytes  # of all row digests: what the draw is bound to
    epoch: int
    check_rate_ppm: int
    referee_rate_ppm: int
    row_work: int  # the rig's ordinary row when the draw was made, in thousandths
    why: str  # why these rates: one of shares.trust.sampling.REASONS
    held: int  # units that the rig held when the draw was made
    price: int  # units a unit of work, the highest of its jobs
    works: tuple[tuple[int, int], ...]  # runs (work of a row, rows): what the draw went by
    over: tuple[tuple[int, int], ...]  # rows (start, stop) of blocks that are over: never drawn
    check_rows: tuple[int, ...]  # rows of the part drawn for a check by another account
    referee_rows: tuple[int, ...]  # rows of the part drawn for the referee
    policy: int  # version of the sampling policy
    won: tuple[Won, ...]
    at: float
    # Runs (first row of the part, row after the last, ppm) with a least chance for check_rows.
    least: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CreditEarned(Record):
    """Pay for (a portion of) one part; pending until the share's verdict.

    ``kind``: ``row``, ``check`` or ``hedge``. ``source``: ``pay`` (escrow.pay of the job),
    ``check`` (escrow.check of the job) or ``reserve``.
    """

    lease: int
    part: int
    job: int
    kind: str
    source: str
    account: str
    rig: str
    work: int
    amount: int


@dataclass(frozen=True, slots=True)
class CheckDrawn(Record):
    """One row of an accepted part is to be computed again. ``by``: ``rig`` or ``referee``, as it
    was drawn; ``witness`` or ``opinion``: of a row that the referee has computed."""

    check: int
    by: str
    lease: int
    part: int
    job: int
    block: int
    row: int
    at: float


@dataclass(frozen=True, slots=True)
class CheckEnded(Record):
    """``matched``, ``guilty`` (the share was wrong), ``accuser_wrong``, ``both_wrong``, ``heard``
    (an opinion was given) or ``void``. ``checker`` is ``account.rig``, ``referee`` or ``""``."""

    check: int
    outcome: str
    checker: str
    at: float


@dataclass(frozen=True, slots=True)
class RefereePaid(Record):
    """A referee run's standard price, to be charged to escrow.check of the job (capped)."""

    job: int
    work: int
    amount: int


@dataclass(frozen=True, slots=True)
class ShareJudged(Record):
    """The verdict on a share: ``cleared``, ``rejected`` or ``void``, with its reason code.

    A rejected share's rows are open again. ``forfeit``: its pending pay goes to forfeits
    (offence) instead of back to where it came from (it is then paid again from forfeits when the
    rows are done again).
    """

    lease: int
    state: str
    reason: str
    forfeit: bool
    at: float


@dataclass(frozen=True, slots=True)
class RowRefuted(Record):
    """The referee found a row of a share wrong. ``given`` and ``expected``: digests, 16 bytes.

    ``offence``: what was found with it was one, and not a first isolated row.
    """

    lease: int
    job: int
    block: int
    row: int
    given: bytes
    expected: bytes
    offence: bool
    at: float


@dataclass(frozen=True, slots=True)
class AppealGranted(Record):
    """The referee took back its word on a share: the rig gets ``units`` back."""

    lease: int
    units: int
    at: float


@dataclass(frozen=True, slots=True)
class TrialBegun(Record):
    """A row of the share is wrong; other rigs of its kind of device are asked for it. ``row``: of
    the share. The share's verdict ends it."""

    lease: int
    row: int
    kind: str


@dataclass(frozen=True, slots=True)
class ShareExcused(Record):
    """Wrong rows of a share are put down to a kind of device: nobody pays, and its rig's held pay
    waits until the operator decides (``ExcuseEnded``)."""

    lease: int
    account: str
    rig: str
    model: str
    kind: str
    rows: int  # how many were wrong; a later record of the share has all of them
    price: int  # units a unit of work
    at: float


@dataclass(frozen=True, slots=True)
class KindAccused(Record):
    """Unrelated accounts, one of them established, gave equal wrong digests: the kind of device
    is in quarantine for the model."""

    model: str
    kind: str
    accounts: int
    at: float


@dataclass(frozen=True, slots=True)
class ExcuseSettled(Record):
    """The operator decided on an excused share. ``outcome``: ``innocent`` or ``guilty``;
    ``offence``: guilty, and not of a first isolated row."""

    lease: int
    outcome: str
    offence: bool
    at: float


@dataclass(frozen=True, slots=True)
class RecountBegun(Record):
    """The referee computes all rows of a rejected share but ``row`` (of the share), found wrong."""

    lease: int
    row: int


@dataclass(frozen=True, slots=True)
class RecountEnded(Record):
    """Every row was counted that can be, or another one was wrong."""

    lease: int


@dataclass(frozen=True, slots=True)
class TrustChanged(Record):
    """What is known of one rig. Replaces the row."""

    account: str
    rig: str
    held: int  # units cleared and not yet available
    accepted_rows: int
    accepted_work: int
    cleared_shares: int
    cleared_work: int
    rejected_shares: int
    isolated: int  # isolated wrong rows so far
    offences: int
    banned_until: float
    row_work: int  # its ordinary row: mean over its recent work, in thousandths
    proved: tuple[tuple[str, int], ...] = ()  # (model, others' work of it that was cleared)
    forfeits: int = 0  # how often held pay of it was forfeited


@dataclass(frozen=True, slots=True)
class NeighboursSuspected(Record):
    """A rig of a network block (or ``payout ADDRESS``) was banned: the others are checked more
    for a time."""

    block: str
    until: float


@dataclass(frozen=True, slots=True)
class HeldForfeited(Record):
    """Held pay of a rig goes to forfeits: all of it for an ``offence``; for a first ``wrong_row``
    what it may have hidden (see ``Standing.fine``)."""

    account: str
    rig: str
    units: int
    number: int  # rises with each forfeit of the rig
    reason: str  # offence | wrong_row
    lease: int  # the share that proved it
    at: float


@dataclass(frozen=True, slots=True)
class BlockCleared(Record):
    """Every row of the block is cleared."""

    job: int
    block: int


@dataclass(frozen=True, slots=True)
class JobClosed(Record):
    """Nothing of the job is open or in flight: ``completed`` (every row cleared), ``cancelled``
    or ``expired`` (rows that are not cleared stay without a result)."""

    job: int
    state: str
    at: float


# ── messages ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Notify(Message):
    """Send a share: the gateway reads the rows of ``segments`` in order."""

    session: int
    lease: int
    model: str
    operation: str
    segments: tuple[Segment, ...]
    timeout: float  # seconds until its deadline


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """Tell the rig to drop a share."""

    session: int
    lease: int
    reason: str


@dataclass(frozen=True, slots=True)
class SetDifficulty(Message):
    """Tell the rig its difficulty."""

    session: int
    work: int


@dataclass(frozen=True, slots=True)
class Accepted(Message):
    """Answer a request with success."""

    session: int
    request: int


@dataclass(frozen=True, slots=True)
class Refused(Message):
    """Answer a request with an error (codes of ``stratum.errors``; the reason is documented)."""

    session: int
    request: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Disconnect(Message):
    """Say why, then close the session."""

    session: int
    reason: str


# ── orders ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class BlockWanted(Order):
    """Read this block and answer with ``BlockOpened``."""

    job: int
    block: int


@dataclass(frozen=True, slots=True)
class BlockDropped(Order):
    """The block is cleared or its job closed: forget its rows."""

    job: int
    block: int


@dataclass(frozen=True, slots=True)
class RefereeWanted(Order):
    """Compute these rows and answer with ``RefereeAnswered`` (in pieces if convenient)."""

    model: str
    operation: str
    job: int
    block: int
    rows: tuple[int, ...]
    urgent: bool  # a dispute or the end of a job waits for it
    account: str = ""  # whose shares it is for; "": the pool's own wish
    group: str = ""  # the network block of its rig; "" for none


@dataclass(frozen=True, slots=True)
class ComparisonWanted(Order):
    """Say how near two results of a row are and answer with ``ResultsCompared``.

    Of a model whose honest results differ within its tolerance; both results are durable.
    ``leases``: the shares that hold them; 0 is the referee, and then the second.
    """

    model: str
    operation: str
    job: int
    block: int
    row: int
    leases: tuple[int, int]
    digests: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class PayloadDropped(Order):
    """A submitted part was not accepted: forget its bytes."""

    payload: int


@dataclass(frozen=True, slots=True)
class Noted(Order):
    """For log and metrics: what was decided and why. ``what`` is a stable name."""

    what: str
    facts: tuple[tuple[str, object], ...] = ()

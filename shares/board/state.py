"""What the board knows. Plain containers; the topics' modules change them.

Dictionaries stand in for ordered sets everywhere, so that a replay of the same events walks
them in the same order on every machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shares.blocks import Segment, offsets_of, pieces
from shares.board.effects import Effect, Noted, RefereeWanted, TrustChanged
from shares.nearness import Nearness
from shares.policy import Policy
from shares.results import DIGEST_BYTES
from shares.trust.sampling import HELD, NEIGHBOUR, PROBATION
from shares.trust.standing import Standing
from shares.vardiff import Meter

# States of a row.
OPEN, LEASED, DONE, CLEARED = range(4)

RigKey = tuple[str, str]  # (account, rig)
RowKey = tuple[int, int, int]  # (job, block, row)


@dataclass(slots=True, eq=False)
class Block:
    """A block in memory. Arrays have one entry a row, longest row first."""

    job: int
    no: int
    lengths: NDArray[np.int32]
    works: NDArray[np.int64]
    state: NDArray[np.uint8] = field(init=False)
    holders: NDArray[np.uint8] = field(init=False)  # open leases that owe the row: 0, 1 or 2
    winner: NDArray[np.int64] = field(init=False)  # lease whose result counts; 0: none
    digests: NDArray[np.uint8] = field(init=False)  # [rows, 16], of the result that counts
    told: NDArray[np.bool_] = field(init=False)  # rows in truth
    open_rows: int = field(init=False)
    open_work: int = field(init=False)
    cleared_rows: int = 0
    first_open: int = 0  # no row before this one is open
    lessees: dict[int, Lease] = field(default_factory=dict)  # open leases with rows in it
    winners: dict[int, Rig] = field(default_factory=dict)  # {lease that won rows: its rig}
    avoid: dict[RigKey, NDArray[np.bool_]] = field(default_factory=dict)  # rows a rig dropped
    truth: dict[int, bytes] = field(default_factory=dict)  # {row: the referee's digest}
    asked: dict[int, None] = field(default_factory=dict)  # rows that the referee computes
    cases: dict[int, Case] = field(default_factory=dict)  # rows that wait for its answer
    trials: dict[int, Trial] = field(default_factory=dict)  # rows that witnesses compute
    # {(row, a digest, another, whether that is the referee's): what a comparison gave}
    near: dict[tuple[int, bytes, bytes, bool], Nearness | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.lengths)
        self.state = np.zeros(rows, np.uint8)
        self.holders = np.zeros(rows, np.uint8)
        self.winner = np.zeros(rows, np.int64)
        self.digests = np.zeros((rows, DIGEST_BYTES), np.uint8)
        self.told = np.zeros(rows, np.bool_)
        self.open_rows = rows
        self.open_work = int(self.works.sum())

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.state)

    @property
    def contested(self) -> bool:
        """Whether a share that may still be judged waits for a word on one of its rows: the
        referee's, or that of witnesses."""
        return bool(self.trials) or any(case.claims for case in self.cases.values())


@dataclass(slots=True, eq=False)
class Job:
    """An open job."""

    job: int
    account: str
    model: str
    operation: str
    direct: bool
    blocks: int
    rows: int
    work: int
    price: int
    row_bytes: int
    check_left: int  # units of its check budget that are not spent or promised
    check_keep: int  # referee runs stop being charged when check_left would fall below this
    assurance_ppm: int  # each row is checked with this chance at least
    trusted: bool  # only rigs on the operator's list see its rows
    exact: bool  # honest results are the same bits
    order: tuple[float, int]  # creation; the older goes first within an account
    queue: Queue
    customer: Customer
    opened: dict[int, Block] = field(default_factory=dict)
    wanted: dict[int, None] = field(default_factory=dict)  # asked for, not yet here
    cleared: set[int] = field(default_factory=set)  # block numbers
    next_block: int = 0
    open_rows: int = 0  # in blocks that are here
    open_work: int = 0  # everywhere: here and in blocks not yet opened
    unopened_work: int = 0
    accepted_rows: int = 0
    accepted_work: int = 0
    cleared_rows: int = 0
    cleared_work: int = 0
    due_units: int = 0  # the price of its checks that wait for a rig
    held_by: dict[str, int] = field(default_factory=dict)  # {miner's account: work it owes}
    shares: dict[int, Lease] = field(default_factory=dict)  # open or not judged, with its rows
    cancelled: str = ""  # the reason
    speed: float = 0.0  # work accepted, decaying
    speed_at: float = 0.0  # when speed was last brought up to date
    begun: float = 0.0  # first acceptance


@dataclass(slots=True, eq=False)
class Customer:
    """Whose jobs are served in turns: the one that got least goes first."""

    account: str
    served: int = 0  # work leased to rigs, its virtual time
    jobs: int = 0  # open


@dataclass(slots=True, eq=False)
class Queue:
    """Jobs of one model and operation, direct or not, by customer and oldest first."""

    direct: bool
    model: str
    operation: str
    ready: dict[str, dict[int, Job]] = field(default_factory=dict)  # with rows to lease
    backlog: dict[str, dict[int, Job]] = field(default_factory=dict)  # with blocks to ask for


@dataclass(slots=True, eq=False)
class Credit:
    """Pay of one part for one reason, pending until the verdict. Fields of ``CreditEarned``."""

    part: int
    job: int
    kind: str
    source: str
    work: int
    amount: int


@dataclass(slots=True, eq=False)
class Task:
    """A row that a lease computes as a check, and the units set aside for it."""

    check: int
    job: int
    work: int
    amount: int  # 0: its budget is gone
    source: str  # check | reserve


@dataclass(slots=True, eq=False)
class Lease:
    """A share: in a rig's hands (state open), then waiting for its verdict."""

    lease: int
    rig: Rig
    model: str
    operation: str
    segments: tuple[Segment, ...]
    rows: int
    work: int
    difficulty: int
    issued: float
    deadline: float
    latest: float  # the deadline is never moved beyond this
    direct: bool
    works: NDArray[np.int64]  # [rows]
    left: int  # work not yet accepted
    state: str = "open"
    ended_at: float = 0.0
    next_row: int = 0
    part_starts: list[int] = field(default_factory=list)  # first row of each accepted part
    last_part_at: float = 0.0
    digests: bytearray = field(default_factory=bytearray)  # of the rows accepted so far
    credits: list[Credit] = field(default_factory=list)
    tasks: dict[int, Task] = field(default_factory=dict)  # {row of the share: check still owed}
    checks: dict[int, Check] = field(default_factory=dict)  # drawn on it and not ended
    claims: dict[RowKey, int] = field(default_factory=dict)  # rows the referee must speak on
    matched: int = 0  # checks of it that ended well
    suspect: bool = False  # its rig was wrong elsewhere: every row is checked
    trial: Trial | None = None  # a row of it is wrong; whether its rig is to blame is open
    offsets: tuple[int, ...] = field(init=False)  # row of the share where each segment begins
    # {(job, block): (first row of the block, row of the share) of each segment, ascending}
    places: dict[tuple[int, int], list[tuple[int, int]]] = field(init=False)

    def __post_init__(self) -> None:
        # A share with checks has about as many segments as rows: they are looked up, not walked.
        self.offsets = offsets_of(self.segments)
        self.places = {}
        for segment, offset in zip(self.segments, self.offsets, strict=False):
            place = (segment.job, segment.block)
            self.places.setdefault(place, []).append((segment.start, offset))
        for begins in self.places.values():
            begins.sort()

    @property
    def account(self) -> str:
        """Who is paid."""
        return self.rig.key[0]

    @property
    def accepted(self) -> bool:
        """Whether any part was accepted."""
        return bool(self.part_starts)

    def digest(self, row: int) -> bytes:
        """The accepted digest of a row of the share."""
        return bytes(self.digests[DIGEST_BYTES * row : DIGEST_BYTES * (row + 1)])

    def pieces(self, first: int, stop: int) -> Iterator[tuple[Segment, int, int, int]]:
        """The segments under rows ``first:stop`` of the share, as ``shares.blocks.pieces``."""
        return pieces(self.segments, first, stop, self.offsets)

    def find(self, key: RowKey) -> int:
        """Which row of the share is this row of a block. Raises ``KeyError``."""
        job, block, row = key
        begins = self.places.get((job, block), [])
        number = bisect_right(begins, row, key=lambda begin: begin[0]) - 1
        if number >= 0:
            start, offset = begins[number]
            segment = self.segments[bisect_right(self.offsets, offset) - 1]
            if row < segment.stop:
                return offset + row - start
        raise KeyError(key)

    def job_of(self, row: int) -> int:
        """Which job a row of the share belongs to."""
        segment, _, _, _ = next(self.pieces(row, row + 1))
        return segment.job

    def part_of(self, row: int) -> int:
        """Number of the accepted part that holds a row of the share."""
        return bisect_right(self.part_starts, row) - 1


@dataclass(slots=True, eq=False)
class Rig:
    """A rig, connected or not."""

    key: RigKey
    standing: Standing
    session: int | None = None
    credit: int = 1
    group: str = ""
    payees: tuple[str, ...] = ()  # payout addresses of its account
    kinds: tuple[str, ...] = ()  # of its devices, as it says
    staged: dict[str, None] = field(default_factory=dict)
    difficulty: int = 0
    meter: Meter = field(default_factory=Meter)
    busy_since: float = 0.0  # when it ended what it did before
    leases: dict[int, Lease] = field(default_factory=dict)  # open, in the order of issue
    in_hand: int = 0  # work of them not yet accepted
    shares: dict[int, Lease] = field(default_factory=dict)  # accepted in part, not judged
    grace_until: float = 0.0  # when its leases end while it is not connected
    on_trial: dict[int, Lease] = field(default_factory=dict)  # shares of it
    failures: int = 0  # leases in a row that came to nothing
    rest_until: float = 0.0

    @property
    def groups(self) -> tuple[str, ...]:
        """What it may have in common with rigs of other accounts: its network block, payees."""
        payees = (f"payout {address}" for address in self.payees)
        return (self.group, *payees) if self.group else tuple(payees)

    def unrelated(self, other: Rig, policy: Policy) -> bool:
        """Whether the two are of different accounts, payout addresses and network blocks."""
        if self.key[0] == other.key[0] or not set(self.payees).isdisjoint(other.payees):
            return False
        return not (policy.separate_groups and self.group and self.group == other.group)

    def rate(self, policy: Policy) -> float:
        """Work per second, measured or else taken from its difficulty."""
        measured = self.meter.rate
        return measured if measured else max(1, self.difficulty) / policy.target_share_seconds

    def ceiling(self, policy: Policy) -> int:
        """The largest difficulty it may have."""
        if self.standing.proven(policy):
            return policy.max_difficulty
        return policy.probation_ceiling


@dataclass(slots=True, eq=False)
class Check:
    """One row of an accepted part that is to be computed again."""

    check: int
    by: str  # rig | referee, as it was drawn; witness: asked in a trial; opinion: in a case
    target: Lease
    part: int
    key: RowKey
    since: float  # when it was drawn (or the pool came back)
    lessee: int = 0  # lease that computes it; 0: none
    accuser: Lease | None = None  # whose result differs
    referred: bool = False  # the referee's to decide
    witness: Rig | None = None  # no other rig may compute it
    trial: Trial | None = None  # that asks for it; None: a case does
    doubted: bool = False  # a rig computed it; the results are being compared


@dataclass(slots=True, eq=False)
class Doubt:
    """A share's result of a row is not the same bits as another's."""

    lease: Lease
    digest: bytes
    number: int  # the other share
    other: Lease | None  # it, unless it was cleared and is forgotten
    against: bytes  # its digest
    rig: Rig  # whose doing it is if the referee must be asked
    check: Check | None = None  # that the first one computed of the other


@dataclass(slots=True, eq=False)
class Voice:
    """A result of a row that counts as an opinion."""

    lease: int
    rig: Rig
    digest: bytes


@dataclass(slots=True, eq=False)
class Case:
    """A row of which results differ, or that the referee computes, and who waits for it."""

    key: RowKey
    checks: dict[int, Check] = field(default_factory=dict)
    claims: dict[int, tuple[Lease, int]] = field(default_factory=dict)  # {lease: (it, its row)}
    recounts: dict[int, tuple[Recount, int]] = field(default_factory=dict)  # rejected shares
    cleared: int = 0  # lease, judged, whose cleared result of the row is disputed
    doubts: list[Doubt] = field(default_factory=list)  # not yet decided
    polled: bool = False  # further opinions were asked for
    opinions: dict[int, Check] = field(default_factory=dict)  # of them those not yet given
    heard: list[Voice] = field(default_factory=list)  # and those given


@dataclass(slots=True, eq=False)
class Recount:
    """A rejected share whose wrong rows are being counted."""

    lease: Lease
    waiting: dict[RowKey, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Accusation:
    """A share of which the referee found rows wrong."""

    number: int
    rig: Rig
    model: str
    by_referee: bool  # its own sample had one of them
    price: int  # units a unit of work
    lease: Lease | None = None  # the share, unless it was cleared and is forgotten
    # {row of the share: (row of the block, digest given, digest expected)}; the rows of a share
    # that is forgotten are just numbered
    wrong: dict[int, tuple[RowKey, bytes, bytes]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Trial:
    """Whether a wrong row is a rig's own doing, or that of all devices of its kind.

    Other accounts' rigs of the kind compute the row, as a check among their own rows.
    """

    model: str
    kind: str
    key: RowKey
    given: bytes  # the digest that is known to be wrong
    first: Rig  # which gave it
    until: float
    accused: dict[int, Accusation] = field(default_factory=dict)  # {lease: it}
    spoken: dict[str, None] = field(default_factory=dict)  # accounts that computed it, or will
    questions: int = 0  # witnesses asked
    look_at: float = 0.0  # when to look for one more
    open: dict[int, Check] = field(default_factory=dict)  # not yet answered
    right: bool = False  # a witness gave the right digest
    equal: dict[str, None] = field(default_factory=dict)  # accounts that gave the same wrong one
    established: bool = False  # one of the accused or of these is past probation


@dataclass(slots=True, eq=False)
class Laggard:
    """An open lease at the tail, as seen in this turn."""

    finish: float  # when it is expected to be finished
    lease: Lease
    work: int | None = None  # of its rows that can be leased a second time, once looked at


@dataclass(slots=True, eq=False)
class State:
    """All of the board, and the turn it is in."""

    policy: Policy
    reserve: int
    next_lease: int
    next_check: int
    at: float
    jobs: dict[int, Job] = field(default_factory=dict)
    queues: dict[tuple[bool, str, str], Queue] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)  # open or not judged
    open: dict[int, Lease] = field(default_factory=dict)
    waiting: dict[int, Lease] = field(default_factory=dict)  # ended, not judged
    called_off: dict[int, Lease] = field(default_factory=dict)  # of them those cancelled
    rigs: dict[RigKey, Rig] = field(default_factory=dict)
    by_account: dict[str, dict[RigKey, Rig]] = field(default_factory=dict)
    sessions: dict[int, Rig] = field(default_factory=dict)
    leaving: dict[str, None] = field(default_factory=dict)  # closed accounts with rigs connected
    away: dict[RigKey, Rig] = field(default_factory=dict)  # with leases and not connected
    hungry: dict[RigKey, Rig] = field(default_factory=dict)  # had room and found nothing
    checks: dict[int, Check] = field(default_factory=dict)
    asked: dict[int, Check] = field(default_factory=dict)  # of them those that a witness has to do
    # {(model, operation): {account whose share is checked: {check: it}}}, to be leased to rigs
    due: dict[tuple[str, str], dict[str, dict[int, Check]]] = field(default_factory=dict)
    recounts: dict[int, Recount] = field(default_factory=dict)  # {rejected lease: its recount}
    # {network block or payout address: until}
    suspected_blocks: dict[str, float] = field(default_factory=dict)
    quarantined: frozenset[tuple[str, str]] = frozenset()  # (model, kind of device)
    trials: dict[tuple[str, str], Trial] = field(default_factory=dict)  # {(model, kind): it}
    # {account: {lease that was excused: (model, kind, wrong rows)}}, until the operator decides
    excused: dict[str, dict[int, tuple[str, str, int]]] = field(default_factory=dict)
    back_by: float = 0.0  # until then rigs that witness are on their way to a restarted pool
    epoch: int = 0
    key: bytes = b""
    paused: bool = False

    # The turn: what one event led to.
    effects: list[Effect] = field(default_factory=list)
    changed: dict[RigKey, Rig] = field(default_factory=dict)  # standings to record
    answerable: dict[RowKey, None] = field(default_factory=dict)  # cases whose truth is known
    weighable: dict[RowKey, None] = field(default_factory=dict)  # cases with doubts to look at
    # {(job, block, urgent): {(network block, account): rows to be asked for its shares}}
    referee: dict[tuple[int, int, bool], dict[tuple[str, str], dict[int, None]]] = field(
        default_factory=dict
    )
    ripe: dict[int, Lease] = field(default_factory=dict)  # shares that may be judged now
    unsettled: dict[int, Job] = field(default_factory=dict)  # jobs that may be over
    wake: dict[RigKey, Rig] = field(default_factory=dict)  # rigs that may have room
    work_came: bool = False  # hungry rigs may find something
    short: dict[tuple[bool, str, str, str], None] = field(default_factory=dict)  # want blocks
    rates: dict[str, float] = field(default_factory=dict)  # {model: work a second of its rigs}
    # {(job, account, network block that is checked): whether somebody is there who may}
    checkers: dict[tuple[int, str, str], bool] = field(default_factory=dict)
    suffice: dict[str, bool] = field(default_factory=dict)  # {model: established rigs could do all}
    in_hands: tuple[int, int] | None = None  # work leased: by rigs on probation, by all
    put_off: dict[RigKey, Rig] = field(default_factory=dict)  # on probation: others go first
    tail: list[Laggard] | None = None  # leases that may be hedged, the last to finish first

    def has_bad_neighbours(self, rig: Rig) -> bool:
        """Whether a rig of its network block or payout address was banned lately. Neighbours are
        never banned for it: a network is shared with strangers, and anybody can name an address."""
        return any(self.suspected_blocks.get(group, 0.0) > self.at for group in rig.groups)

    def why(self, rig: Rig, model: str) -> str:
        """Why a rig's parts of a model are sampled as they are, unless it was wrong elsewhere."""
        if not rig.standing.established(self.policy, model):
            return PROBATION
        return NEIGHBOUR if self.has_bad_neighbours(rig) else HELD

    def emit(self, effect: Effect) -> None:
        """Add to the answer."""
        self.effects.append(effect)

    def note(self, what: str, **facts: object) -> None:
        """Tell log and metrics."""
        self.emit(Noted(what, tuple(facts.items())))

    def begin(self, at: float) -> None:
        """A new turn; time never runs backwards."""
        self.at = max(self.at, at)
        self.effects = []
        self.rates.clear()
        self.checkers.clear()
        self.suffice.clear()
        self.put_off.clear()
        self.in_hands = None
        self.tail = None

    def finish(self) -> list[Effect]:
        """Close the turn: what changed once or more is recorded once."""
        for (job, block, urgent), turns in self.referee.items():
            found = self.jobs[job]
            for (group, account), rows in turns.items():
                wanted = tuple(sorted(rows))
                self.emit(
                    RefereeWanted(
                        found.model, found.operation, job, block, wanted, urgent, account, group
                    )
                )
        self.referee.clear()
        for rig in self.changed.values():
            self.emit(trust_record(rig.standing))
        self.changed.clear()
        return self.effects

    def block(self, job: int, no: int) -> Block | None:
        """A block that is in memory."""
        found = self.jobs.get(job)
        return found.opened.get(no) if found else None

    def rig(self, key: RigKey) -> Rig:
        """The rig of that name, made if need be."""
        rig = self.rigs.get(key)
        if rig is None:
            rig = self.rigs[key] = Rig(key, Standing(*key))
            self.by_account.setdefault(key[0], {})[key] = rig
        return rig

    def rigs_of(self, account: str) -> list[Rig]:
        """Every rig that the account ever had."""
        return list(self.by_account.get(account, {}).values())

    def banned_until(self, account: str) -> float:
        """Until when an account is kept out; 0 when it is not.

        All of it: whoever runs one false rig runs the others, and a name costs nothing.
        """
        until = max((r.standing.banned_until for r in self.rigs_of(account)), default=0.0)
        return until if until > self.at else 0.0

    def online(self, model: str) -> Iterator[Rig]:
        """Connected rigs that can compute a model, and may."""
        return (
            rig
            for rig in self.sessions.values()
            if model in rig.staged and not self.keeps_from(rig, model)
        )

    def keeps_from(self, rig: Rig, model: str) -> bool:
        """Whether one of the rig's kinds of devices is in quarantine for the model, or a wrong
        row of its account was put down to a kind and nobody looked into it yet."""
        return self.excuses(rig.key[0], model) or any(
            (model, kind) in self.quarantined for kind in rig.kinds
        )

    def excuses(self, account: str, model: str) -> bool:
        """Whether a wrong row of the account in this model was put down to its kind of device."""
        return any(of == model for of, _, _ in self.excused.get(account, {}).values())

    def rate_of(self, model: str) -> float:
        """Work a second of all connected rigs that can compute a model."""
        rate = self.rates.get(model)
        if rate is None:
            rate = sum(rig.rate(self.policy) for rig in self.online(model))
            self.rates[model] = rate
        return rate

    def lease_id(self) -> int:
        """The next one; never used twice."""
        self.next_lease += 1
        return self.next_lease

    def check_id(self) -> int:
        """The next one; never used twice."""
        self.next_check += 1
        return self.next_check


def trust_record(standing: Standing) -> TrustChanged:
    """A rig's standing as a record."""
    return TrustChanged(
        account=standing.account,
        rig=standing.rig,
        held=standing.held,
        accepted_rows=standing.accepted_rows,
        accepted_work=standing.accepted_work,
        cleared_shares=standing.cleared_shares,
        cleared_work=standing.cleared_work,
        rejected_shares=standing.rejected_shares,
        isolated=standing.isolated,
        offences=standing.offences,
        banned_until=standing.banned_until,
        row_work=standing.row_work,
        proved=tuple(standing.proved.items()),
        forfeits=standing.forfeits,
    )

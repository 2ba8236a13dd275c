"""Plays the app around a board: keeps what is durable, answers orders, speaks for rigs.

``House`` holds a board, applies the records it returns to a small store in memory, can kill the
board and build the ``Snapshot`` a real store would, and checks that credits conserve. Rigs are
played by hand (``submit``) or left to ``work``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from shares.blocks import Segment
from shares.board import Board, Policy
from shares.board import effects as fx
from shares.board import events as ev
from shares.board.snapshot import (
    OpenBlock,
    OpenJob,
    Snapshot,
    StoredCheck,
    StoredCredit,
    StoredLease,
    StoredPart,
    StoredRecount,
)
from shares.faults import LEASES, VERDICTS
from shares.nearness import nearness

MODEL = "m" * 64
FLOAT_MODEL = "f" * 64  # in a float numerics
OPERATION = "embed"
KEY = b"k" * 32


def true_digest(job: int, block: int, row: int) -> bytes:
    """What an honest computation of a row gives."""
    return blake2b(f"{job}/{block}/{row}".encode(), digest_size=16).digest()


def false_digest(job: int, block: int, row: int, liar: str = "") -> bytes:
    """A wrong result; liars who collude use one name."""
    return blake2b(f"false {liar} {job}/{block}/{row}".encode(), digest_size=16).digest()


def near_digest(key: tuple[int, int, int], place: float) -> bytes:
    """The result of a row in a float numerics: so far from the referee's, which is at 0.

    Distances are squares, and the tolerance is 1: honest machines are within ±0.7.
    """
    return blake2b(f"{key} at {place}".encode(), digest_size=16).digest()


@dataclass
class HeldLease:
    """A share as its rig knows it."""

    lease: int
    segments: tuple[Segment, ...]
    next_part: int = 0
    next_row: int = 0

    @property
    def keys(self) -> list[tuple[int, int, int]]:
        """(job, block, row) of each row of the share."""
        return [(s.job, s.block, row) for s in self.segments for row in range(s.start, s.stop)]


@dataclass
class PlayedRig:
    """One rig outside the pool."""

    account: str
    rig: str
    session: int | None = None
    leases: dict[int, HeldLease] = field(default_factory=dict)
    dropped: dict[int, HeldLease] = field(default_factory=dict)  # cancelled by the pool
    reasons: list[str] = field(default_factory=list)  # why it was disconnected
    difficulty: int = 0
    lies: Callable[[tuple[int, int, int]], bool] = lambda key: False
    liar: str = ""
    place: float = 0.5  # of its results in a float numerics (see ``near_digest``)


@dataclass
class StoredJob:
    """A job's row and blocks in the store."""

    opened: ev.JobOpened
    blocks: list[tuple[NDArray[np.int32], NDArray[np.int64]]]
    cleared: set[int] = field(default_factory=set)
    closed: str = ""
    cancelled: str = ""


@dataclass
class Share:
    """A lease's row with its parts and credits in the store."""

    issued: fx.LeaseIssued
    state: str = "open"
    fault: str = "none"
    verdict: str = "open"
    reason: str = ""
    forfeit: bool = False
    suspect: bool = False
    recount: int | None = None
    trial: tuple[int, str] | None = None
    parts: list[fx.PartAccepted] = field(default_factory=list)
    credits: list[fx.CreditEarned] = field(default_factory=list)


class House:
    """A board with an app and rigs around it."""

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        reserve: int = 0,
        at: float = 1000.0,
        epoch: bool = True,
        referee: bool = True,
        checked: bool = True,
    ) -> None:
        """``referee``: whether it answers by itself; ``checked``: invariants after each event."""
        self.policy = policy or Policy()
        self.at = at
        self.referee = referee
        self.checked = checked
        self.seeded = reserve
        self.boot = 1
        self.jobs: dict[int, StoredJob] = {}
        self.shares: dict[int, Share] = {}
        self.drawn: dict[int, fx.CheckDrawn] = {}
        self.ended: dict[int, fx.CheckEnded] = {}
        self.trust: dict[tuple[str, str], fx.TrustChanged] = {}
        self.referee_paid: list[fx.RefereePaid] = []
        self.forfeits: list[fx.HeldForfeited] = []
        self.refuted: list[fx.RowRefuted] = []
        self.granted: list[fx.AppealGranted] = []
        self.excused: dict[int, fx.ShareExcused] = {}  # not decided on
        self.settled: dict[int, fx.ExcuseSettled] = {}
        self.kinds_accused: list[fx.KindAccused] = []
        self.blocks: dict[str, float] = {}  # {suspected network block: until}
        self.notes: list[fx.Noted] = []
        self.rigs: dict[tuple[str, str], PlayedRig] = {}
        self.sessions: dict[int, PlayedRig] = {}
        self.asked: list[fx.RefereeWanted] = []  # not yet answered
        self.comparing: list[fx.ComparisonWanted] = []  # not yet answered
        self.places: dict[bytes, float] = {}  # {digest in a float numerics: its place}
        self.referee_rows: list[tuple[int, int, int]] = []  # every row it was asked for
        self.next_session = 1
        self.next_request = 1
        self.events: list[ev.Event] = []
        self.log: list[list[fx.Effect]] = []
        self.epoch = epoch
        self.board = Board(self.policy, Snapshot(boot=self.boot, reserve=reserve), at)
        self._carry_out(self.board.start(at))
        if epoch:
            self.handle(ev.EpochOpened(at=self.at, epoch=1, key=KEY))

    # ── events and effects ───────────────────────────────────────────────────

    def handle(self, event: ev.Event) -> list[fx.Effect]:
        """One event through the board; returns its effects (follow-ups are carried out too)."""
        self.events.append(event)
        effects = self.board.handle(event)
        self.log.append(effects)
        if self.checked:
            self.board.check_invariants()
        self._carry_out(effects)
        return effects

    def _carry_out(self, effects: Sequence[fx.Effect]) -> None:
        wanted: list[fx.BlockWanted] = []
        for effect in effects:
            match effect:
                case fx.LeaseIssued():
                    assert effect.lease not in self.shares
                    self.shares[effect.lease] = Share(effect)
                case fx.LeaseEnded():
                    share = self.shares[effect.lease]
                    assert share.state == "open", "a lease ended twice"
                    assert (effect.state, effect.fault) in LEASES, "not documented"
                    share.state, share.fault = effect.state, effect.fault
                case fx.PartAccepted():
                    share = self.shares[effect.lease]
                    assert effect.part == len(share.parts)
                    assert share.verdict in ("open", "accepted")
                    share.parts.append(effect)
                    share.verdict = "accepted"
                case fx.CreditEarned():
                    share = self.shares[effect.lease]
                    keys = {(c.part, c.job, c.kind, c.source) for c in share.credits}
                    assert (effect.part, effect.job, effect.kind, effect.source) not in keys
                    share.credits.append(effect)
                case fx.ShareJudged():
                    share = self.shares[effect.lease]
                    assert share.state != "open"
                    assert share.verdict in ("open", "accepted"), "judged twice"
                    assert (effect.state, effect.reason) in VERDICTS, "not documented"
                    share.verdict, share.reason = effect.state, effect.reason
                    share.forfeit = effect.forfeit
                case fx.LeaseSuspected():
                    assert not self.shares[effect.lease].suspect
                    self.shares[effect.lease].suspect = True
                case fx.TrialBegun():
                    assert self.shares[effect.lease].verdict == "accepted"
                    self.shares[effect.lease].trial = (effect.row, effect.kind)
                case fx.ShareExcused():
                    self.excused[effect.lease] = effect
                case fx.ExcuseSettled():
                    del self.excused[effect.lease]
                    self.settled[effect.lease] = effect
                case fx.KindAccused():
                    self.kinds_accused.append(effect)
                case fx.RecountBegun():
                    assert self.shares[effect.lease].recount is None
                    self.shares[effect.lease].recount = effect.row
                case fx.RecountEnded():
                    assert self.shares[effect.lease].recount is not None
                    self.shares[effect.lease].recount = None
                case fx.CheckDrawn():
                    self.drawn[effect.check] = effect
                case fx.CheckEnded():
                    assert effect.check not in self.ended
                    self.ended[effect.check] = effect
                case fx.TrustChanged():
                    self.trust[effect.account, effect.rig] = effect
                case fx.RefereePaid():
                    self.referee_paid.append(effect)
                case fx.RowRefuted():
                    self.refuted.append(effect)
                case fx.NeighboursSuspected():
                    self.blocks[effect.block] = effect.until
                case fx.AppealGranted():
                    self.granted.append(effect)
                case fx.HeldForfeited():
                    self.forfeits.append(effect)
                case fx.BlockCleared():
                    assert effect.block not in self.jobs[effect.job].cleared
                    self.jobs[effect.job].cleared.add(effect.block)
                case fx.JobClosed():
                    assert not self.jobs[effect.job].closed
                    self.jobs[effect.job].closed = effect.state
                case fx.BlockWanted():
                    wanted.append(effect)
                case fx.RefereeWanted():
                    self.asked.append(effect)
                    self.referee_rows += [(effect.job, effect.block, r) for r in effect.rows]
                case fx.ComparisonWanted():
                    self.comparing.append(effect)
                case fx.Noted():
                    self.notes.append(effect)
                case fx.Message():
                    self._deliver(effect)
                case _:
                    assert isinstance(effect, fx.BlockDropped | fx.PayloadDropped), effect
        if self.checked:
            self._compare_budgets()
        for want in wanted:
            lengths, works = self.jobs[want.job].blocks[want.block]
            self.handle(
                ev.BlockOpened(
                    at=self.at, job=want.job, block=want.block, lengths=lengths, works=works
                )
            )
        if self.referee:
            self.answer()

    def _compare_budgets(self) -> None:
        """What the board may still spend and what is set aside add up to what is not credited."""
        state = self.board._state
        aside: dict[int, int] = dict.fromkeys(state.jobs, 0)
        reserve = state.reserve
        for lease in state.open.values():
            for task in lease.tasks.values():
                if task.source == "reserve":
                    reserve += task.amount
                elif task.job in aside:
                    aside[task.job] += task.amount
        assert reserve == self.reserve_left(), "the reserve does not add up"
        for job, units in aside.items():
            left = state.jobs[job].check_left + units
            assert left == self.check_left(job), f"the check budget of job {job} does not add up"

    def _deliver(self, message: fx.Message) -> None:
        rig = self.sessions.get(message.session)  # type: ignore[attr-defined]
        if rig is None:
            return
        match message:
            case fx.Notify():
                rig.leases[message.lease] = HeldLease(message.lease, message.segments)
            case fx.Cancel():
                if message.lease in rig.leases:
                    rig.dropped[message.lease] = rig.leases.pop(message.lease)
            case fx.SetDifficulty():
                rig.difficulty = message.work
            case fx.Disconnect():
                rig.reasons.append(message.reason)
                del self.sessions[message.session]
                if rig.session == message.session:
                    rig.session = None
                    if message.reason == "banned":
                        rig.leases.clear()

    # ── the world ────────────────────────────────────────────────────────────

    def tick(self, seconds: float = 1.0) -> list[fx.Effect]:
        """Let time pass, then tick once."""
        self.at += seconds
        return self.handle(ev.Tick(at=self.at))

    def open_job(
        self,
        job: int = 1,
        rows: int = 100,
        *,
        account: str = "customer",
        blocks: int = 1,
        work: int | Sequence[int] = 100,
        lengths: Sequence[int] | None = None,
        price: int = 1,
        check_budget: int | None = None,
        direct: bool = False,
        model: str = MODEL,
        assurance_ppm: int = 0,
        trusted: bool = False,
        exact: bool = True,
    ) -> list[fx.Effect]:
        """Open a job of ``rows`` rows in ``blocks`` blocks."""
        works = np.full(rows, work, np.int64) if isinstance(work, int) else np.array(work, np.int64)
        sizes = np.full(rows, 16, np.int32) if lengths is None else np.array(lengths, np.int32)
        packed = []
        for part in np.array_split(np.arange(rows), blocks):
            order = part[np.argsort(-sizes[part], kind="stable")]
            packed.append((sizes[order], works[order]))
        total = int(works.sum())
        opened = ev.JobOpened(
            at=self.at,
            job=job,
            account=account,
            model=model,
            operation=OPERATION,
            direct=direct,
            blocks=blocks,
            rows=rows,
            work=total,
            price=price,
            check_budget=(
                total * price * (30_000 + assurance_ppm) // 1_000_000
                if check_budget is None
                else check_budget
            ),
            row_bytes=64,
            assurance_ppm=assurance_ppm,
            trusted=trusted,
            exact=exact,
        )
        self.jobs[job] = StoredJob(opened, packed)
        return self.handle(opened)

    def cancel(self, job: int, reason: str = "cancelled") -> list[fx.Effect]:
        """The customer cancels, or the job expires."""
        self.jobs[job].cancelled = self.jobs[job].cancelled or reason
        return self.handle(ev.JobCancelled(at=self.at, job=job, reason=reason))

    def connect(
        self,
        account: str,
        rig: str = "r",
        *,
        credit: int = 4,
        model: str | None = MODEL,
        resumed: bool = True,
        suggested: int = 0,
        group: str = "",
        payees: tuple[str, ...] = (),
        kinds: tuple[str, ...] = (),
    ) -> PlayedRig:
        """A rig connects and stages the model."""
        played = self.rigs.setdefault((account, rig), PlayedRig(account, rig))
        played.session = self.next_session
        self.next_session += 1
        self.sessions[played.session] = played
        if not resumed:
            played.leases.clear()
        self.handle(
            ev.SessionOpened(
                at=self.at,
                session=played.session,
                account=account,
                rig=rig,
                credit=credit,
                resumed=resumed,
                suggested=suggested,
                group=group,
                payees=payees,
                kinds=kinds,
            )
        )
        if model is not None and played.session is not None:
            self.handle(ev.ModelStaged(at=self.at, session=played.session, model=model))
        return played

    def disconnect(self, rig: PlayedRig) -> list[fx.Effect]:
        """The rig's connection breaks."""
        assert rig.session is not None
        session, rig.session = rig.session, None
        del self.sessions[session]
        return self.handle(ev.SessionClosed(at=self.at, session=session))

    def established(
        self,
        account: str,
        rig: str = "r",
        held: int = 10**9,
        models: Sequence[str] = (MODEL,),
    ) -> None:
        """Give a rig a good record, by restarting the board with it."""
        self.trust[account, rig] = fx.TrustChanged(
            account=account,
            rig=rig,
            held=held,
            accepted_rows=100_000,
            accepted_work=10_000_000,
            cleared_shares=1000,
            cleared_work=10_000_000,
            rejected_shares=0,
            isolated=0,
            offences=0,
            banned_until=0.0,
            row_work=100_000,
            proved=tuple((model, 10_000_000) for model in models),
        )
        self.restart()

    # ── results ──────────────────────────────────────────────────────────────

    def submit(
        self,
        rig: PlayedRig,
        lease: int | None = None,
        rows: int | None = None,
        *,
        wrong: Collection[int] = (),
    ) -> list[fx.Effect]:
        """Send the next part of a share: ``rows`` of it (all by default), some of them wrong.

        ``wrong``: rows of the share, beside those that the rig's ``lies`` falsifies.
        """
        held = rig.leases[next(iter(rig.leases)) if lease is None else lease]
        keys = held.keys
        stop = len(keys) if rows is None else min(len(keys), held.next_row + rows)
        digests = b"".join(
            self.result(rig, key, false=rig.lies(key) or place in wrong)
            for place, key in enumerate(keys[held.next_row : stop], held.next_row)
        )
        effects = self.raw_submit(
            rig,
            held.lease,
            part=held.next_part,
            first_row=held.next_row,
            rows=stop - held.next_row,
            final=stop == len(keys),
            digests=digests,
        )
        held.next_part += 1
        held.next_row = stop
        if stop == len(keys):
            rig.leases.pop(held.lease, None)
        return effects

    def result(self, rig: PlayedRig, key: tuple[int, int, int], *, false: bool) -> bytes:
        """The digest of what a rig gives of a row."""
        if self.jobs[key[0]].opened.exact:
            return false_digest(*key, rig.liar) if false else true_digest(*key)
        place = 100.0 if false else rig.place
        digest = near_digest(key, place)
        self.places[digest] = place
        return digest

    def raw_submit(
        self,
        rig: PlayedRig,
        lease: int,
        *,
        part: int,
        first_row: int,
        rows: int,
        final: bool,
        digests: bytes | None = None,
    ) -> list[fx.Effect]:
        """Send any part."""
        assert rig.session is not None
        request = self.next_request
        self.next_request += 1
        return self.handle(
            ev.PartSubmitted(
                at=self.at,
                session=rig.session,
                request=request,
                lease=lease,
                part=part,
                first_row=first_row,
                rows=rows,
                final=final,
                digests=bytes(16 * rows) if digests is None else digests,
                payload=request,
                size=64 * rows,
            )
        )

    def decide(self, lease: int, *, guilty: bool) -> list[fx.Effect]:
        """The operator looked into a share that was excused."""
        one = self.excused[lease]
        return self.handle(
            ev.ExcuseEnded(
                at=self.at,
                account=one.account,
                rig=one.rig,
                lease=lease,
                rows=one.rows,
                price=one.price,
                guilty=guilty,
            )
        )

    def answer(self) -> None:
        """The referee answers everything it was asked, and everything is compared."""
        while self.asked or self.comparing:
            if self.comparing:
                self.compare()
                continue
            self.say()

    def say(self) -> None:
        """The referee answers what it was asked first."""
        want = self.asked.pop(0)
        self.at += 1e-6  # no two answers come at one moment
        self.handle(
            ev.RefereeAnswered(
                at=self.at,
                job=want.job,
                block=want.block,
                rows=want.rows,
                digests=b"".join(
                    true_digest(want.job, want.block, r)
                    if self.jobs[want.job].opened.exact
                    else near_digest((want.job, want.block, r), 0.0)
                    for r in want.rows
                ),
            )
        )

    def compare(self) -> None:
        """Compare what is to be compared first."""
        want = self.comparing.pop(0)
        if want.leases[1] == 0:
            self.places[want.digests[1]] = 0.0
        one, other = (self.places[digest] for digest in want.digests)
        for lease, digest in zip(want.leases, want.digests, strict=True):
            share = self.shares.get(lease)
            given = b"".join(part.digests for part in share.parts) if share else b""
            assert digest in [given[at : at + 16] for at in range(0, len(given), 16)] or not lease
        found = nearness((one - other) ** 2, 1.0, referee=0 in want.leases)
        self.handle(ev.ResultsCompared(at=self.at, found=((want, found),)))

    def work(self, *rigs: PlayedRig, seconds: float = 1.0, limit: int = 10_000) -> None:
        """Let rigs finish a share each, then a tick, until every job is closed."""
        for _ in range(limit):
            if all(job.closed for job in self.jobs.values()):
                return
            self.at += seconds
            for rig in rigs:
                if rig.session is not None and rig.leases:
                    self.submit(rig)
            self.tick(0)
        raise AssertionError(f"jobs are not over after {limit} rounds: {self.board.jobs()}")

    # ── restart ──────────────────────────────────────────────────────────────

    def restart(self, seconds: float = 0.0) -> None:
        """``kill -9``: the board is gone, a new one starts from what is durable."""
        self.boot += 1
        self.at += seconds
        for rig in self.sessions.values():
            rig.session = None
        self.sessions.clear()
        self.asked.clear()
        self.comparing.clear()
        self.board = Board(self.policy, self.snapshot(), self.at)
        effects = self.board.start(self.at)
        if self.checked:
            self.board.check_invariants()
        self._carry_out(effects)
        if self.epoch:
            self.handle(ev.EpochOpened(at=self.at, epoch=1, key=KEY))

    def snapshot(self) -> Snapshot:
        """What a store would hand the board."""
        open_jobs = {number: job for number, job in self.jobs.items() if not job.closed}
        checks = [drawn for check, drawn in self.drawn.items() if check not in self.ended]
        leases = [
            share
            for share in self.shares.values()
            if share.verdict in ("open", "accepted") or self._won_in(share, open_jobs)
        ]
        leases = [share for share in leases if share.verdict not in ("rejected", "void")]
        touched = {(s.job, s.block) for share in leases for s in share.issued.segments}
        recounts = [share for share in self.shares.values() if share.recount is not None]
        touched |= {(s.job, s.block) for share in recounts for s in share.issued.segments}
        touched |= {(check.job, check.block) for check in checks}
        return Snapshot(
            boot=self.boot,
            reserve=self.reserve_left(),
            suspected_blocks=tuple(self.blocks.items()),
            jobs=tuple(
                OpenJob(
                    job=number,
                    account=job.opened.account,
                    model=job.opened.model,
                    operation=job.opened.operation,
                    direct=job.opened.direct,
                    blocks=job.opened.blocks,
                    rows=job.opened.rows,
                    work=job.opened.work,
                    price=job.opened.price,
                    check_left=self.check_left(number),
                    row_bytes=job.opened.row_bytes,
                    cleared_blocks=frozenset(job.cleared),
                    open_blocks=tuple(
                        OpenBlock(block=no, lengths=lengths, works=works)
                        for no, (lengths, works) in enumerate(job.blocks)
                        if no not in job.cleared and (number, no) in touched
                    ),
                    cancelled=job.cancelled,
                    created=job.opened.at,
                    check_budget=job.opened.check_budget,
                    assurance_ppm=job.opened.assurance_ppm,
                    trusted=job.opened.trusted,
                    exact=job.opened.exact,
                    cleared_rows=sum(len(job.blocks[no][0]) for no in job.cleared),
                    cleared_work=sum(int(job.blocks[no][1].sum()) for no in job.cleared),
                )
                for number, job in open_jobs.items()
            ),
            leases=tuple(self._stored(share) for share in leases),
            recounts=tuple(
                StoredRecount(lease=self._stored(share), row=share.recount)
                for share in recounts
                if share.recount is not None
            ),
            checks=tuple(
                StoredCheck(
                    check=check.check,
                    by=check.by,
                    lease=check.lease,
                    part=check.part,
                    job=check.job,
                    block=check.block,
                    row=check.row,
                    at=check.at,
                )
                for check in checks
            ),
            trust=tuple(self.trust.values()),
            excused=tuple(
                (one.account, one.lease, one.model, one.kind, one.rows)
                for one in self.excused.values()
            ),
        )

    def _stored(self, share: Share) -> StoredLease:
        return StoredLease(
            lease=share.issued.lease,
            account=share.issued.account,
            rig=share.issued.rig,
            model=share.issued.model,
            operation=share.issued.operation,
            segments=share.issued.segments,
            work=share.issued.work,
            difficulty=share.issued.difficulty,
            issued=share.issued.issued,
            deadline=share.issued.deadline,
            state=share.state,
            verdict=share.verdict,
            parts=tuple(
                StoredPart(
                    part=part.part,
                    first_row=part.first_row,
                    rows=part.rows,
                    digests=part.digests,
                    won=part.won,
                    at=part.at,
                )
                for part in share.parts
            ),
            credits=tuple(
                StoredCredit(
                    part=credit.part,
                    job=credit.job,
                    kind=credit.kind,
                    source=credit.source,
                    work=credit.work,
                    amount=credit.amount,
                )
                for credit in share.credits
            ),
            suspect=share.suspect,
            trial=share.trial,
        )

    def _won_in(self, share: Share, open_jobs: Collection[int]) -> bool:
        return any(
            won.job in open_jobs and won.block not in self.jobs[won.job].cleared
            for part in share.parts
            for won in part.won
        )

    # ── money ────────────────────────────────────────────────────────────────

    def credits(self, *, live: bool = True) -> Iterable[tuple[Share, fx.CreditEarned]]:
        """All credits with their shares; ``live``: without those of rejected shares."""
        for share in self.shares.values():
            if not (live and share.verdict == "rejected"):
                for credit in share.credits:
                    yield share, credit

    def check_left(self, job: int) -> int:
        """Units of a job's check budget not credited."""
        spent = sum(
            credit.amount
            for share, credit in self.credits(live=False)
            if credit.job == job
            and credit.source == "check"
            and (share.verdict != "rejected" or share.forfeit)
        )
        referee = sum(paid.amount for paid in self.referee_paid if paid.job == job)
        return self.jobs[job].opened.check_budget - spent - referee

    def reserve_left(self) -> int:
        """Units of the reserve not credited."""
        return self.seeded - sum(
            credit.amount
            for share, credit in self.credits(live=False)
            if credit.source == "reserve" and (share.verdict != "rejected" or share.forfeit)
        )

    def final_rows(self, job: int) -> dict[tuple[int, int], bytes]:
        """{(block, row): digest} of all cleared shares; asserts that each row is there once."""
        rows: dict[tuple[int, int], bytes] = {}
        for share in self.shares.values():
            if share.verdict != "cleared":
                continue
            for part in share.parts:
                for won in part.won:
                    if won.job != job:
                        continue
                    for row in range(won.start, won.stop):
                        place = won.first_row + row - won.start
                        assert (won.block, row) not in rows, "a row was cleared twice"
                        rows[won.block, row] = part.digests[16 * place : 16 * place + 16]
        return rows

    def assert_complete(self, job: int = 1, *, true: bool = True) -> None:
        """The job is completed: every row exactly once, true, and paid exactly its price.

        ``true=False``: a false row may have slipped through (sampling bounds what it is worth).
        """
        stored = self.jobs[job]
        assert stored.closed == "completed", stored.closed
        rows = self.final_rows(job)
        assert len(rows) == stored.opened.rows
        for (block, row), digest in rows.items() if true else ():
            if stored.opened.exact:
                assert digest == true_digest(job, block, row), "a false row was cleared"
            else:
                assert abs(self.places[digest]) <= 4, "a false row was cleared"
        paid = sum(
            credit.amount
            for share, credit in self.credits()
            if credit.job == job and credit.kind == "row" and share.verdict == "cleared"
        )
        assert paid == stored.opened.work * stored.opened.price
        self.assert_money()

    def assert_money(self) -> None:
        """No budget is overspent."""
        for job in self.jobs:
            assert self.check_left(job) >= 0
        assert self.reserve_left() >= 0

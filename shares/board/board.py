"""The board: one event in, a list of effects out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from shares.board import (
    checks,
    cutting,
    doubts,
    invariants,
    jobs,
    leases,
    progress,
    restore,
    results,
    sessions,
    verdicts,
)
from shares.board.effects import Effect
from shares.board.events import (
    AccountClosed,
    AppealWon,
    BlockOpened,
    DifficultySuggested,
    EpochOpened,
    Event,
    ExcuseEnded,
    HoldRefuted,
    HoldReleased,
    JobCancelled,
    JobOpened,
    KindsQuarantined,
    LeaseReleased,
    LeasingPaused,
    ModelStaged,
    ModelUnstaged,
    PartMalformed,
    PartSubmitted,
    RefereeAnswered,
    ReserveChanged,
    ResultsCompared,
    SessionClosed,
    SessionOpened,
    Tick,
)
from shares.board.snapshot import Snapshot
from shares.board.state import Rig, State
from shares.board.views import JobProgress, SessionView, Totals, TrustView
from shares.policy import Policy
from shares.trust.sampling import HELD, PROBATION


class Board:
    """All open work, who computes it, and what is proved of it.

    Pure: no clock, no randomness, no I/O. The same events after the same snapshot give the same
    effects. ``handle`` raises ``ValueError`` before it changes anything when an event cannot be
    (a caller's bug); a rig's faults are answered with effects.
    """

    def __init__(self, policy: Policy, snapshot: Snapshot, at: float) -> None:
        self._snapshot: Snapshot | None = snapshot
        self._state = restore.restored(policy, snapshot, at)

    @property
    def policy(self) -> Policy:
        """The rules in force."""
        return self._state.policy

    def start(self, at: float) -> list[Effect]:
        """Say once what the restored state asks for: blocks, the referee, verdicts due."""
        if self._snapshot is None:
            raise ValueError("the board was started before: start it once")
        state = self._state
        state.begin(at)
        restore.start(state, self._snapshot)
        self._snapshot = None
        return self._finish()

    def handle(self, event: Event) -> list[Effect]:
        """Take in what happened; returns what is to be done, in order."""
        if self._snapshot is not None:
            raise ValueError("the board was not started: call start(at) before handle(event)")
        state = self._state
        state.begin(event.at)
        _HANDLERS[type(event)](state, event)
        return self._finish()

    def _finish(self) -> list[Effect]:
        state = self._state
        verdicts.conclude(state)
        cutting.pump(state)
        verdicts.conclude(state)
        sessions.send_away(state)
        jobs.want_blocks(state)
        return state.finish()

    def check_invariants(self) -> None:
        """Derive every invariant anew; raises ``AssertionError`` where one is broken."""
        invariants.check(self._state)

    # ── views ────────────────────────────────────────────────────────────────

    def lease_model(self, lease: int) -> str | None:
        """The model of a share that is open or not judged."""
        found = self._state.leases.get(lease)
        return found.model if found else None

    def banned_until(self, account: str) -> float:
        """Until when this account's rigs are kept out, seconds since the epoch; 0: they are not."""
        return self._state.banned_until(account)

    def awaits(self, job: int, block: int, rows: Iterable[int]) -> bool:
        """Whether the referee's word on any of these rows is still wanted."""
        found = self._state.jobs.get(job)
        opened = found.opened.get(block) if found else None
        return opened is not None and any(row in opened.asked for row in rows)

    def holds(self, job: int, block: int) -> bool:
        """Whether a block is in memory."""
        return self._state.block(job, block) is not None

    def leases(self) -> int:
        """How many shares are in rigs' hands."""
        return len(self._state.open)

    def sessions(self) -> dict[int, SessionView]:
        """Connected rigs by session."""
        return {number: _view(number, rig) for number, rig in self._state.sessions.items()}

    def session_numbers(self) -> list[int]:
        """Sessions that are open now."""
        return list(self._state.sessions)

    def session(self, number: int) -> SessionView | None:
        """One of them; ``None`` when it is over."""
        rig = self._state.sessions.get(number)
        return None if rig is None else _view(number, rig)

    def jobs(self) -> dict[int, JobProgress]:
        """Open jobs by number."""
        return {number: self._progress(number) for number in self._state.jobs}

    def job(self, number: int) -> JobProgress | None:
        """One open job; ``None`` when it is over or unknown."""
        return self._progress(number) if number in self._state.jobs else None

    def _progress(self, number: int) -> JobProgress:
        job = self._state.jobs[number]
        rate = progress.rate(job, self._state.at)
        left = job.work - job.accepted_work
        return JobProgress(
            job=number,
            account=job.account,
            model=job.model,
            operation=job.operation,
            direct=job.direct,
            cancelled=job.cancelled,
            rows=job.rows,
            accepted_rows=job.accepted_rows,
            cleared_rows=job.cleared_rows,
            work=job.work,
            accepted_work=job.accepted_work,
            cleared_work=job.cleared_work,
            rate=rate,
            eta=left / rate if rate > 0 else None,
            check_left=job.check_left,
        )

    def trust(self, account: str, rig: str) -> TrustView | None:
        """What is known of one rig; ``None`` for a name never seen."""
        found = self._state.rigs.get((account, rig))
        if found is None:
            return None
        standing = found.standing
        proven = standing.proven(self.policy)
        by_rigs, by_referee = standing.rates(HELD if proven else PROBATION, 1, self.policy)
        return TrustView(
            account=account,
            rig=rig,
            established=proven,
            held=standing.held,
            accepted_rows=standing.accepted_rows,
            accepted_work=standing.accepted_work,
            cleared_shares=standing.cleared_shares,
            cleared_work=standing.cleared_work,
            rejected_shares=standing.rejected_shares,
            isolated=standing.isolated,
            offences=standing.offences,
            banned_until=standing.banned_until,
            check_rate_ppm=by_rigs,
            referee_rate_ppm=by_referee,
        )

    def totals(self) -> Totals:
        """Sums over everything."""
        state = self._state
        blocks = [block for job in state.jobs.values() for block in job.opened.values()]
        return Totals(
            rigs=len(state.sessions),
            rate=sum(rig.rate(state.policy) for rig in state.sessions.values()),
            jobs=len(state.jobs),
            blocks=len(blocks),
            leases=len(state.open),
            unjudged=len(state.waiting),
            open_work=sum(job.open_work for job in state.jobs.values()),
            leased_work=sum(rig.in_hand for rig in state.rigs.values()),
            checks=len(state.checks),
            checks_due=sum(
                len(queued) for accounts in state.due.values() for queued in accounts.values()
            ),
            referee_rows=sum(len(block.asked) for block in blocks),
            reserve=state.reserve,
            paused=state.paused,
        )


def _view(session: int, rig: Rig) -> SessionView:
    return SessionView(
        session=session,
        account=rig.key[0],
        rig=rig.key[1],
        group=rig.group,
        credit=rig.credit,
        models=tuple(rig.staged),
        difficulty=rig.difficulty,
        rate=rig.meter.rate,
        leases=len(rig.leases),
        in_hand=rig.in_hand,
        unjudged=len(rig.shares),
    )


# ── events of the board itself ───────────────────────────────────────────────


def _tick(state: State, event: Tick) -> None:
    if event.stalled > 0:
        leases.allow(state, event.stalled)
    leases.expire(state)
    checks.out_of_patience(state)
    state.ripe.update(state.waiting)
    state.work_came = True  # hungry rigs may hedge
    jobs.want_everywhere(state)


def _epoch_opened(state: State, event: EpochOpened) -> None:
    state.epoch, state.key = event.epoch, event.key


def _reserve_changed(state: State, event: ReserveChanged) -> None:
    state.reserve += event.units


def _paused(state: State, event: LeasingPaused) -> None:
    state.paused = event.paused
    if not event.paused:
        state.wake.update({rig.key: rig for rig in state.sessions.values()})


_HANDLERS: dict[type[Event], Callable[[State, Any], None]] = {
    Tick: _tick,
    EpochOpened: _epoch_opened,
    ReserveChanged: _reserve_changed,
    HoldReleased: sessions.hold_released,
    JobOpened: jobs.opened,
    BlockOpened: jobs.block_opened,
    JobCancelled: jobs.cancelled,
    SessionOpened: sessions.opened,
    SessionClosed: sessions.closed,
    AccountClosed: sessions.account_closed,
    DifficultySuggested: sessions.difficulty_suggested,
    ModelStaged: sessions.staged,
    ModelUnstaged: sessions.unstaged,
    PartSubmitted: results.submitted,
    PartMalformed: results.malformed,
    LeaseReleased: results.released,
    RefereeAnswered: verdicts.answered,
    ResultsCompared: doubts.compared,
    AppealWon: verdicts.appealed,
    HoldRefuted: verdicts.hold_refuted,
    ExcuseEnded: verdicts.excuse_ended,
    KindsQuarantined: sessions.kinds_quarantined,
    LeasingPaused: _paused,
}

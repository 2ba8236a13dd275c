"""A share log: what was computed by whom, for which job, and what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shares.money.apportion import tie_break

_ORDER = b"inferpool.sharelog.order"


@dataclass(frozen=True, slots=True)
class ShareRecord:
    """One accepted share, or a part of one."""

    at: float  # when it was accepted, in seconds since the epoch
    account: str
    job: str
    work: int  # above 0
    units: int  # of pay, at the job's price
    cleared: bool  # False: rejected later


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What a customer brought for a job."""

    job: str
    work: int  # of all its rows
    bounty: int  # units reserved as pay for that work; fee and levy are beside it
    ended: float | None  # when it ended; None while it runs


@dataclass(frozen=True, slots=True)
class ShareLog:
    """Shares in the order of time, and the jobs they belong to. Made by ``share_log``."""

    shares: tuple[ShareRecord, ...]
    jobs: Mapping[str, JobRecord]

    @property
    def bounty(self) -> int:
        """Units that all jobs brought."""
        return sum(job.bounty for job in self.jobs.values())

    def ended_jobs(self) -> list[JobRecord]:
        """Jobs that ended, by time."""
        ended = [(job.ended, job.job, job) for job in self.jobs.values() if job.ended is not None]
        return [job for _, _, job in sorted(ended, key=lambda one: one[:2])]

    def work_by_account(self) -> dict[str, int]:
        """{account: work of all its shares, rejected ones too}."""
        work: dict[str, int] = defaultdict(int)
        for share in self.shares:
            work[share.account] += share.work
        return dict(work)


def share_log(shares: Iterable[ShareRecord], jobs: Iterable[JobRecord]) -> ShareLog:
    """Put shares in order, whatever order they came in, and check that they fit their jobs.

    Shares of the same moment are ordered by a hash of their account, so that names that sort first
    gain nothing. Raises ``ValueError``, naming the job, for a job told twice, a share of an unknown
    job, and cleared work that is more than the job's.
    """
    known: dict[str, JobRecord] = {}
    for job in jobs:
        if job.job in known:
            raise ValueError(f"job {job.job} is told twice")
        known[job.job] = job
    ties: dict[str, bytes] = {}
    cleared: dict[str, int] = defaultdict(int)
    listed = list(shares)
    for share in listed:
        if share.job not in known:
            raise ValueError(f"job {share.job} has shares and no line of its own: add work, bounty")
        if share.account not in ties:
            ties[share.account] = tie_break(share.account, _ORDER)
        cleared[share.job] += share.work if share.cleared else 0
    for name, work in cleared.items():
        if work > known[name].work:
            raise ValueError(
                f"job {name}: shares with work {work} were cleared, and its work is "
                f"{known[name].work}"
            )
    listed.sort(key=lambda s: (s.at, ties[s.account], s.job, s.work, s.units, s.cleared))
    return ShareLog(tuple(listed), known)

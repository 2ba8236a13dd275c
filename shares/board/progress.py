"""How fast a job is going: accepted work a second, over about the last half minute."""

from __future__ import annotations

from math import exp, expm1

from shares.board.state import Job

_MEMORY = 30.0  # seconds


def accepted(job: Job, work: int, at: float) -> None:
    """Work of the job was accepted."""
    if not job.speed:
        job.begun = at
    job.speed = _decayed(job, at) + work
    job.speed_at = at


def rate(job: Job, at: float) -> float:
    """Work a second."""
    lived = max(at - job.begun, 1.0)
    return _decayed(job, at) / (-expm1(-lived / _MEMORY) * _MEMORY) if job.speed else 0.0


def _decayed(job: Job, at: float) -> float:
    return job.speed * exp((job.speed_at - at) / _MEMORY) if job.speed else 0.0

"""Share logs made from a seed, so that schemes can be compared without a pool."""

from __future__ import annotations

import math
from random import Random

from shares.money.sharelog import JobRecord, ShareLog, ShareRecord, share_log

PRICE = 3  # units a unit of work
ROUND_SECONDS = 3600

_START = 1_700_002_800  # a full hour
_HOURS = 48
_SPEEDS = (400, 240, 160, 110, 80, 60, 45, 30, 20, 12, 7, 4)  # work a share, by account


def example_log(seed: int) -> ShareLog:
    """Two days of a small pool: twelve accounts, some of them by day only.

    Shares come every two minutes or so, one in a hundred is rejected and its rows are computed
    again; jobs of 5,000 to 40,000 units of work follow one another, one in ten is cancelled before
    its end, and the last one still runs.
    """
    random = Random(f"inferpool example {seed}")  # noqa: S311 - a simulation
    names = [f"miner{number:02}" for number in range(1, len(_SPEEDS) + 1)]
    by_day = {name for name in names if random.randrange(3) == 0}
    shares: list[ShareRecord] = []
    jobs: list[JobRecord] = []
    at, end = _START * 1000, (_START + _HOURS * 3600) * 1000  # milliseconds
    while at < end:
        name, work = str(len(jobs) + 1), random.randrange(5_000, 40_001)
        goal = random.randrange(1, work) if random.randrange(10) == 0 else work
        left, cancelled = goal, goal < work
        while left and at < end:
            at += random.randrange(20_000, 200_000)
            awake = [one for one in names if one not in by_day or 8 <= _hour(at) < 20]
            account = random.choice(awake)
            done = min(left, _SPEEDS[names.index(account)] * random.randrange(3, 8))
            cleared = random.randrange(100) > 0
            shares.append(ShareRecord(at / 1000, account, name, done, done * PRICE, cleared))
            left -= done if cleared else 0
        over = cancelled or not left
        jobs.append(JobRecord(name, work, work * PRICE, at / 1000 if over else None))
    return share_log(shares, jobs)


def unknown_length_log(seed: int, *, rounds: int = 2_000, expected: int = 60) -> ShareLog:
    """Classic mining rounds: each has the same bounty, and nobody knows how long it will be.

    A round ends with each share with chance 1 / ``expected``. Its bounty is what ``expected``
    shares are worth on average. Four accounts hand in shares of one unit of work by chance.
    """
    random = Random(f"inferpool rounds {seed}")  # noqa: S311 - a simulation
    shares: list[ShareRecord] = []
    jobs: list[JobRecord] = []
    at = _START
    for number in range(1, rounds + 1):
        # By inversion: one draw tells the length of the round.
        draw = (random.randrange(1 << 53) + 1) / (1 << 53)
        length = max(1, math.ceil(math.log(draw) / math.log1p(-1 / expected)))
        name = str(number)
        for _ in range(length):
            at += 1
            account = f"miner{random.randrange(1, 5):02}"
            shares.append(ShareRecord(float(at), account, name, 1, 1_000, True))
        jobs.append(JobRecord(name, length, expected * 1_000, float(at)))
    return share_log(shares, jobs)


def _hour(milliseconds: int) -> int:
    return milliseconds // 3_600_000 % 24

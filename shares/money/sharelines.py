"""Share logs as JSON lines: what other tools, and other pools, read and write.

    {"format": "inferpool-shares-1"}
    {"job": "17", "work": 1003, "bounty": 3009, "ended": 1700000060.5}
    {"at": 1700000012.25, "account": "alice", "job": "17", "work": 700, "units": 2100,
     "verdict": "cleared"}

The first line names the format. A line with ``bounty`` tells of a job, any other of a share (each
is one line in the file); they come in any order. ``ended`` is null while a job runs; ``verdict`` is
``cleared`` or ``rejected``. Empty lines and fields of other names are passed over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from shares.money.sharelog import JobRecord, ShareLog, ShareRecord, share_log

FORMAT = "inferpool-shares-1"

_VERDICTS = {"cleared": True, "rejected": False}
_MOST = 2**63 - 1
_LATEST = 2**53  # seconds: beyond it a float does not know them all


class ShareLinesError(ValueError):
    """A line that cannot be read; the text names line, field and remedy."""


def read_lines(lines: Iterable[str]) -> ShareLog:
    """Read a log. Raises ``ShareLinesError``."""
    shares: list[ShareRecord] = []
    jobs: list[JobRecord] = []
    first = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = _object(line, number)
        if first:
            if fields.get("format") != FORMAT:
                raise ShareLinesError(
                    f'line {number}: field format: begin the log with {{"format": "{FORMAT}"}}'
                )
            first = False
        elif "bounty" in fields:
            jobs.append(_job(fields, number))
        else:
            shares.append(_share(fields, number))
    if first:
        raise ShareLinesError(f'line 1: the log is empty: begin with {{"format": "{FORMAT}"}}')
    try:
        return share_log(shares, jobs)
    except ValueError as error:
        raise ShareLinesError(str(error)) from None


def write_lines(log: ShareLog) -> Iterator[str]:
    """The lines of a log, without line ends: jobs first, then shares by time."""
    yield json.dumps({"format": FORMAT})
    for job in log.jobs.values():
        yield json.dumps(
            {"job": job.job, "work": job.work, "bounty": job.bounty, "ended": job.ended}
        )
    for share in log.shares:
        yield json.dumps(
            {
                "at": share.at,
                "account": share.account,
                "job": share.job,
                "work": share.work,
                "units": share.units,
                "verdict": "cleared" if share.cleared else "rejected",
            }
        )


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ShareLinesError(f"line {number}: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ShareLinesError(f"line {number}: not a JSON object: write one share or job a line")
    return fields


def _job(fields: dict[str, Any], number: int) -> JobRecord:
    ended = fields.get("ended")
    return JobRecord(
        job=_name(fields, "job", number),
        work=_integer(fields, "work", number, least=1),
        bounty=_integer(fields, "bounty", number, least=0),
        ended=None if ended is None else _time(fields, "ended", number),
    )


def _share(fields: dict[str, Any], number: int) -> ShareRecord:
    verdict = fields.get("verdict")
    if not isinstance(verdict, str) or verdict not in _VERDICTS:
        raise ShareLinesError(
            f"line {number}: field verdict: write cleared or rejected, not {verdict!r}; a share "
            "without a verdict is left out"
        )
    return ShareRecord(
        at=_time(fields, "at", number),
        account=_name(fields, "account", number),
        job=_name(fields, "job", number),
        work=_integer(fields, "work", number, least=1),
        units=_integer(fields, "units", number, least=0),
        cleared=_VERDICTS[verdict],
    )


def _name(fields: dict[str, Any], field: str, number: int) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or not value:
        raise ShareLinesError(f"line {number}: field {field}: write a text, not {value!r}")
    return value


def _integer(fields: dict[str, Any], field: str, number: int, *, least: int) -> int:
    value = fields.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
        raise ShareLinesError(
            f"line {number}: field {field}: write a whole number of at least {least}, not {value!r}"
        )
    return value


def _time(fields: dict[str, Any], field: str, number: int) -> float:
    value = fields.get(field)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not 0 <= value <= _LATEST
    ):
        raise ShareLinesError(
            f"line {number}: field {field}: write seconds since the epoch, not {value!r}"
        )
    return float(value)

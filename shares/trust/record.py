"""What follows from an account's wrong rows: derived anew, as when one of them is taken back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """So many wrong ``rows`` of one share, found at one moment."""

    at: float
    lease: int
    rig: str
    rows: int


@dataclass(slots=True)
class Record:
    """Of one rig. ``moments``: when it was found guilty of an offence."""

    isolated: int = 0
    offences: int = 0
    banned_until: float = 0.0
    moments: list[float] = field(default_factory=list)


def record_of(findings: Iterable[Finding], ban_seconds: float) -> dict[str, Record]:
    """What the findings of one account come to, {rig: record}: as the board counts them.

    The first isolated wrong row of the account is none, a second one is an offence, and so are
    several rows of a share: those found together, or when it was counted through. What is found
    at the moment of an offence besides, or while the rig is banned for it, is part of it. Each
    offence doubles the account's ban.
    """
    records: dict[str, Record] = {}
    seen: set[int] = set()
    for finding in sorted(findings):
        record = records.setdefault(finding.rig, Record())
        again = finding.lease in seen
        seen.add(finding.lease)
        if finding.at < record.banned_until:
            continue
        offence = again or finding.rows > 1
        if finding.rows == 1 and not again:
            offence = any(each.isolated for each in records.values())
            record.isolated += 1
        if offence:
            before = sum(each.offences for each in records.values())
            record.offences += 1
            record.banned_until = finding.at + ban_seconds * 2**before
            record.moments.append(finding.at)
    return records

"""Handing payouts over, and finding out what became of them.

No payout is handed over before ``submitting`` is on the disk, and from ``submitting`` none is
handed over again: it leaves that state by what the far side says, at once or when it is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from time import monotonic

import sqlalchemy as sa
import structlog

from pool.crashpoints import crash_point
from pool.payouts.carrier import Answer, Carrier, NotTaken, Taken, Unknown
from pool.store.accounts import audit
from pool.store.database import Database
from pool.store.payouts import Payout, due_payouts, postpone, step

_log = structlog.get_logger("pool.payouts")

UNDER_WAY_SECONDS = 120.0
"""How long a hand-over may be under way, in whatever process, before it is looked up: longer than
any carrier takes."""

ASK_SECONDS = 600.0
"""Between two looks at a payout that was taken and is not final."""

_RETRY_SECONDS = (60.0, 300.0, 1800.0, 7200.0, 21_600.0)  # after so many attempts; then a person
_PATIENCE_SECONDS = 86_400.0  # without evidence for so long: a person
_AT_ONCE = 500


def send_due(
    database: Database, carrier: Carrier, at: float, pause: Callable[[], None] = lambda: None
) -> int:
    """Hand over what is reserved or may be sent again; returns how many payouts that were.

    ``pause`` is called before each hand-over, and may raise to end here.
    """
    sent = after = 0
    began = monotonic()
    while True:
        with database.read() as connection:
            found = due_payouts(connection, ("reserved", "retryable"), at, _AT_ONCE, after)
        if not found:
            return sent
        after = found[-1].id
        for group in _groups(carrier, found):
            pause()
            # A slow far side: the last is handed over long after the first.
            sent += _send(database, carrier, group, at + monotonic() - began)


def look_up_due(
    database: Database, carrier: Carrier, at: float, pause: Callable[[], None] = lambda: None
) -> int:
    """Ask for evidence of payouts whose hand-over has no known end, or is not final.

    ``pause`` as for ``send_due``.
    """
    seen = after = 0
    while True:
        with database.read() as connection:
            found = due_payouts(connection, ("submitting", "submitted"), at, _AT_ONCE, after)
        if not found:
            return seen
        after = found[-1].id
        for payout in found:
            pause()
            _note(database, carrier, [(payout, _look_up(carrier, payout))], at)
        seen += len(found)


def _look_up(carrier: Carrier, payout: Payout) -> Answer:
    """Only the carrier that handed a payout over knows what became of it."""
    if payout.carrier != carrier.name:
        return Unknown(f"it was handed over by {payout.carrier}, which is set no more")
    return carrier.look_up(payout)


def _groups(carrier: Carrier, found: Sequence[Payout]) -> Iterator[list[Payout]]:
    if not carrier.together:
        yield from ([payout] for payout in found)
        return
    for _, group in groupby(found, key=lambda payout: payout.round):
        yield list(group)


def _send(database: Database, carrier: Carrier, group: Sequence[Payout], at: float) -> int:
    until = at + UNDER_WAY_SECONDS
    with database.write() as connection:
        moved = [
            step(
                connection,
                payout,
                "submitting",
                at,
                attempts=payout.attempts + 1,
                carrier=carrier.name,
                next_at=until,
                reason=None,
            )
            for payout in group
        ]
        crash_point("payout.before_commit")
    crash_point("payout.committed")
    mine = [payout for payout in moved if payout is not None]
    if mine:
        answers = carrier.submit(mine)
        crash_point("payout.handed_over")
        _note(database, carrier, zip(mine, answers, strict=True), at)
    return len(mine)


def _note(
    database: Database, carrier: Carrier, answered: Iterable[tuple[Payout, Answer]], at: float
) -> None:
    """What became of payouts, in one transaction."""
    with database.write() as connection:
        for payout, answer in answered:
            if payout.state == "submitting":
                _note_hand_over(connection, carrier, payout, answer, at)
            else:
                _note_progress(connection, payout, answer, at)
        crash_point("payout.before_commit")
    crash_point("payout.committed")


def _note_hand_over(
    connection: sa.Connection, carrier: Carrier, payout: Payout, answer: Answer, at: float
) -> None:
    match answer:
        case Taken():
            known = {"reference": answer.reference, "document": answer.document}
            if answer.final:
                step(connection, payout, "finalised", at, next_at=None, reason=None, **known)
                return
            ask_at = at + ASK_SECONDS if carrier.tells else None
            step(connection, payout, "submitted", at, next_at=ask_at, reason=None, **known)
        case NotTaken(reason=reason, again=True) if payout.attempts <= len(_RETRY_SECONDS):
            again_at = at + _RETRY_SECONDS[payout.attempts - 1]
            step(connection, payout, "retryable", at, next_at=again_at, reason=reason)
        case NotTaken(reason=reason):
            _ask_a_person(connection, payout, f"not taken: {reason}", at)
        case Unknown(reason=reason) if at - payout.changed < _PATIENCE_SECONDS:
            postpone(connection, payout, at + UNDER_WAY_SECONDS, reason)
        case Unknown(reason=reason):
            _ask_a_person(connection, payout, f"nobody knows whether it was taken: {reason}", at)


def _note_progress(connection: sa.Connection, payout: Payout, answer: Answer, at: float) -> None:
    """Of a payout that was taken."""
    match answer:
        case Taken(reference=reference, final=True):
            reference = reference or payout.reference
            step(
                connection, payout, "finalised", at, next_at=None, reason=None, reference=reference
            )
        case NotTaken(reason=reason):
            _ask_a_person(connection, payout, f"it had been taken, and now: {reason}", at)
        case Taken():
            postpone(connection, payout, at + ASK_SECONDS, None)
        case Unknown(reason=reason):
            postpone(connection, payout, at + ASK_SECONDS, reason)


def _ask_a_person(connection: sa.Connection, payout: Payout, reason: str, at: float) -> None:
    if step(connection, payout, "manual", at, next_at=None, reason=reason):
        what = f"payout {payout.id} of {payout.units} units to {payout.account} waits: {reason}"
        audit(connection, at, what, "pool")
        _log.warning(
            "a payout waits for a person",
            payout=payout.id,
            reason=reason,
            remedy="inferpool payouts list --state manual",
        )

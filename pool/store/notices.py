"""What accounts want to hear of, what happened, and the messages that tell of it."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import delete, func, insert, select, update

from pool.accounts import token_hash
from pool.store import schema
from pool.store.database import upsert

OPERATOR = "operator"
"""In place of an account's name: whoever runs the pool. No account may be called so."""
EVENTS = {
    "miner": ("rig_offline", "rejections", "payout"),
    "customer": ("batch_done",),
    "operator": (),
}
"""What an account of each role may hear of."""
CHANNELS = ("webhook", "email")
CODE_SECONDS = 86_400.0
_CODES_AN_HOUR = 3
_HOUR = 3_600.0
_TOLD_AT_ONCE = 1_000  # notices in one message
_KEPT_SECONDS = 7 * 86_400.0
# Seconds until each further attempt; after the last one a message is given up.
PAUSES = (5.0, 30.0, 300.0, 1_800.0, 7_200.0)


class NoticeError(ValueError):
    """A wish that cannot be had; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an account wants to hear of, and where. ``per_hour``: messages by each way, at most."""

    account: str
    webhook: str | None = None
    email: str | None = None
    confirmed: bool = False  # the address: its owner has sent back the code
    events: tuple[str, ...] = ()
    per_hour: int = 10

    def ways(self) -> list[tuple[str, str]]:
        """(channel, address) by which it may be told."""
        found = [] if self.webhook is None else [("webhook", self.webhook)]
        if self.email is not None and self.confirmed:
            found.append(("email", self.email))
        return found


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened. ``facts`` hold ids, states and numbers, no words of customers."""

    id: int
    account: str
    kind: str
    facts: dict[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one address, to be sent now."""

    id: str
    account: str
    channel: str
    address: str
    subject: str
    body: bytes
    attempts: int


def wish_of(connection: sa.Connection, account: str) -> Wish:
    """What an account said, or that it wants nothing."""
    table = schema.notice_wish.c
    columns = (table.webhook, table.email, table.confirmed, table.events, table.per_hour)
    row = connection.execute(select(*columns).where(table.account == account)).one_or_none()
    if row is None:
        return Wish(account)
    return Wish(account, row.webhook, row.email, row.confirmed, tuple(row.events), row.per_hour)


def set_wish(connection: sa.Connection, wish: Wish, at: float) -> str | None:
    """Keep a wish; returns the code that a new mail address must be sent, None for one known.

    Raises ``NoticeError`` when an account names new addresses again and again.
    """
    table = schema.notice_wish
    before = connection.execute(select(table).where(table.c.account == wish.account)).one_or_none()
    row: dict[str, Any] = {
        "account": wish.account,
        "webhook": wish.webhook,
        "email": wish.email,
        "confirmed": False,
        "code_hash": None,
        "code_at": None,
        "events": list(wish.events),
        "per_hour": wish.per_hour,
    }
    code = None
    if before is not None and before.email == wish.email:
        row |= {name: getattr(before, name) for name in ("confirmed", "code_hash", "code_at")}
    elif wish.email is not None:
        if _codes_lately(connection, wish.account, at) >= _CODES_AN_HOUR:
            raise NoticeError("too many new addresses within an hour: try again later")
        code = secrets.token_urlsafe(9)
        row |= {"code_hash": token_hash(code), "code_at": at}
    upsert(connection, table, [row])
    return code


def confirm_address(connection: sa.Connection, account: str, code: str, at: float) -> bool:
    """The owner of the mail address sent the code back; returns whether it is the right one."""
    table = schema.notice_wish
    row = connection.execute(select(table).where(table.c.account == account)).one_or_none()
    if row is None or row.code_hash is None or at - row.code_at > CODE_SECONDS:
        return False
    right = hmac.compare_digest(row.code_hash, token_hash(code))
    if right:
        connection.execute(
            update(table).where(table.c.account == account).values(confirmed=True, code_hash=None)
        )
    return right


def _codes_lately(connection: sa.Connection, account: str, at: float) -> int:
    table = schema.notice_message.c
    return (
        connection.scalar(
            select(func.count()).where(
                table.account == account, table.made > at - _HOUR, table.subject == CODE_SUBJECT
            )
        )
        or 0
    )


CODE_SUBJECT = "inferpool: confirm this address"


def notify(
    connection: sa.Connection, account: str, kind: str, facts: dict[str, Any], at: float
) -> bool:
    """Note something for an account, if it wants to hear of it; returns whether it does."""
    if account != OPERATOR and kind not in wish_of(connection, account).events:
        return False
    connection.execute(insert(schema.notice).values(account=account, kind=kind, facts=facts, at=at))
    return True


def waiting_accounts(connection: sa.Connection) -> list[str]:
    """Those for whom something waits to be told."""
    account = schema.notice.c.account
    return list(connection.scalars(select(account).distinct().order_by(account)))


def waiting_notices(connection: sa.Connection, account: str) -> list[Notice]:
    """What waits to be told to an account, in its order."""
    table = schema.notice
    rows = connection.execute(
        select(table).where(table.c.account == account).order_by(table.c.id).limit(_TOLD_AT_ONCE)
    )
    return [Notice(**row._mapping) for row in rows]


def made_lately(connection: sa.Connection, account: str, channel: str, at: float) -> int:
    """Messages that were made for an account and a channel within the hour."""
    table = schema.notice_message.c
    return (
        connection.scalar(
            select(func.count()).where(
                table.account == account, table.made > at - _HOUR, table.channel == channel
            )
        )
        or 0
    )


def add_message(
    connection: sa.Connection,
    account: str,
    way: tuple[str, str],
    subject: str,
    body: bytes,
    at: float,
    *,
    name: str = "",
) -> None:
    """Make a message that is to be sent. ``way``: (channel, address)."""
    connection.execute(
        insert(schema.notice_message).values(
            id=name or new_message_id(),
            account=account,
            channel=way[0],
            address=way[1],
            subject=subject,
            body=body,
            made=at,
            next_at=at,
        )
    )


def new_message_id() -> str:
    """A name that its receiver can tell repetitions by."""
    return f"evt_{secrets.token_hex(16)}"


def forget_notices(connection: sa.Connection, account: str, up_to: int) -> None:
    """They are told."""
    table = schema.notice
    connection.execute(delete(table).where(table.c.account == account, table.c.id <= up_to))


def due_messages(connection: sa.Connection, at: float, limit: int) -> list[Message]:
    """Those whose time has come, the longest waiting first."""
    table = schema.notice_message.c
    rows = connection.execute(
        select(
            table.id,
            table.account,
            table.channel,
            table.address,
            table.subject,
            table.body,
            table.attempts,
        )
        .where(table.next_at <= at)
        .order_by(table.next_at, table.id)
        .limit(limit)
    )
    return [Message(*row) for row in rows]


def note_sent(connection: sa.Connection, message: Message, problem: str | None, at: float) -> None:
    """An attempt ended: well (``problem`` is None), or to be repeated, or for the last time."""
    table = schema.notice_message
    again = problem is not None and message.attempts < len(PAUSES)
    connection.execute(
        update(table)
        .where(table.c.id == message.id)
        .values(
            attempts=message.attempts + 1,
            problem=problem,
            next_at=at + PAUSES[message.attempts] if again else None,
        )
    )
    old = (table.c.made < at - _KEPT_SECONDS) & table.c.next_at.is_(None)
    connection.execute(delete(table).where(table.c.account == message.account, old))

"""What messages say: ids, states and numbers, nothing that a customer or a miner wrote."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pool.store.notices import CODE_SUBJECT, Notice, new_message_id

_SUBJECT = 120  # characters
_TOLD = 20  # lines of a mail; the rest are counted


def message_of(notices: Sequence[Notice], url: str, at: float) -> tuple[str, str, bytes, str]:
    """(id, subject, body of the webhook, text of the mail) that tell of ``notices``."""
    name = new_message_id()
    many = len(notices) > 1
    kind = "notices" if many else notices[0].kind
    subject = f"{len(notices)} things happened" if many else line_of(notices[0])
    data: dict[str, Any] = {
        "account": notices[0].account,
        "notices": [{"type": one.kind, "at": int(one.at), "data": one.facts} for one in notices],
    }
    event = {"id": name, "object": "event", "type": kind, "created_at": int(at), "data": data}
    lines = [f"{_moment(one.at)}  {line_of(one)}" for one in notices[:_TOLD]]
    if len(notices) > _TOLD:
        lines.append(f"and {len(notices) - _TOLD} more")
    place = "operator" if notices[0].account == "operator" else "account"
    where = f"\n\n{url.rstrip('/')}/{place}" if url else ""
    text = "\n".join(lines) + where + "\n"
    subject = " ".join(subject.split())[:_SUBJECT]  # one line, whatever an alert is called
    return name, f"inferpool: {subject}", msgspec.json.encode(event), text


def confirmation(account: str, code: str) -> tuple[str, str]:
    """(subject, text) of the first mail to an address."""
    text = (
        f"Somebody with the token of the account {account} wants this pool's notifications here.\n"
        "If that was you, send this code back (POST /api/v1/accounts/me/notifications/confirm, or\n"
        f"on the account's page) within a day:\n\n    {code}\n\n"
        "If not, do nothing: no other mail comes.\n"
    )
    return CODE_SUBJECT, text


def line_of(notice: Notice) -> str:
    """One notice in one line."""
    facts = notice.facts
    match notice.kind:
        case "rig_offline":
            return f"rig {facts['rig']} has been offline for {round(facts['seconds'] / 60)} min"
        case "rejections":
            reasons = ", ".join(f"{count} {why}" for why, count in facts["reasons"].items())
            return f"{facts['shares']} shares were rejected ({reasons})"
        case "payout":
            return f"payout {facts['payout']} of {facts['units']:,} units is {facts['state']}"
        case "batch_done":
            return f"batch {facts['batch']} is {facts['status']}"
        case "alert":
            return f"{facts['status']}: {facts['alert']}"
        case "payout_waits":
            return f"payout {facts['payout']} waits for you"
        case "ledger":
            return "the ledger does not add up: stop the pool, run inferpool ledger verify"
        case _:
            return "a test: notifications arrive"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""Receivers of notifications."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Hook:
    """Somebody's server; each status is used up by one request, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


class Mailbox:
    """What a mail server took: envelopes."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.refuse = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refuse:
            self.refuse -= 1
            return "451 not now"
        self.got.append(envelope)
        return "250 taken"


@dataclass
class MailServer:
    port: int
    box: Mailbox

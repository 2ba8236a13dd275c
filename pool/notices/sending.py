"""Notices become messages, so many an hour, and messages are sent until they arrive."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpcore
import httpx
import sqlalchemy as sa
import structlog
import trio

from pool.clock import Clock
from pool.config import Config
from pool.notices.mail import Mailer, mailer_of
from pool.notices.sources import Sources
from pool.notices.words import message_of
from pool.store import Store
from pool.store.notices import (
    OPERATOR,
    Message,
    Notice,
    Wish,
    add_message,
    due_messages,
    forget_notices,
    made_lately,
    note_sent,
    waiting_accounts,
    waiting_notices,
    wish_of,
)
from pool.webhooks import PublicOnly, post_signed

_log = structlog.get_logger("pool.notices")

LOOK_SECONDS = 5.0
_AT_ONCE = 16


class Notices:
    """Looks, writes and sends. At least once each: a message is repeated until it was taken."""

    def __init__(
        self, store: Store, clock: Clock, config: Config, base: Path, sources: Sources | None
    ) -> None:
        """``base``: what relative paths in the settings start from. Raises ``MailError``."""
        self._store = store
        self._clock = clock
        self._config = config
        self._sources = sources
        self._mailer: Mailer | None = mailer_of(config.notifications, base)
        self._backend = PublicOnly(anywhere=config.http.webhooks_anywhere)
        self._own_backend = PublicOnly(anywhere=True)  # the operator may name own machines
        self._under_way: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        tls = httpx.create_ssl_context()
        if self._sources is not None:
            await self._sources.recover()
        async with (
            _connections(tls, self._backend) as public,
            _connections(tls, self._own_backend) as own,
            trio.open_nursery() as nursery,
        ):
            while True:
                if self._sources is not None:
                    await self._sources.look()
                for message in await trio.to_thread.run_sync(self._due):
                    if message.id not in self._under_way and len(self._under_way) < _AT_ONCE:
                        self._under_way.add(message.id)
                        connections = own if message.account == OPERATOR else public
                        nursery.start_soon(self._attempt, connections, message)
                await trio.sleep(LOOK_SECONDS)

    def _due(self) -> list[Message]:
        now, database = self._clock.now(), self._store.database
        with database.read() as connection:
            accounts = waiting_accounts(connection)
            ready = [one for one in accounts if self._ways(connection, one, now) is not None]
        if ready:
            with database.write() as connection:
                for account in ready:
                    self._tell(connection, account, now)
        with database.read() as connection:
            return due_messages(connection, now, 2 * _AT_ONCE)

    def _wish(self, connection: sa.Connection, account: str) -> Wish:
        if account != OPERATOR:
            return wish_of(connection, account)
        notes = self._config.notifications
        webhook, email = notes.operator_webhook or None, notes.operator_email or None
        return Wish(OPERATOR, webhook, email, confirmed=True, per_hour=notes.per_hour)

    def _ways(
        self, connection: sa.Connection, account: str, now: float
    ) -> list[tuple[str, str]] | None:
        """How an account may be told now; None while its hour is full; [] for nobody to tell."""
        wish = self._wish(connection, account)
        found = [way for way in wish.ways() if way[0] == "webhook" or self._mailer is not None]
        for channel, _ in found:
            if made_lately(connection, account, channel, now) >= wish.per_hour:
                return None
        return found

    def _tell(self, connection: sa.Connection, account: str, now: float) -> None:
        """One message of all that waits: what came while the hour was full is told in one."""
        notices = waiting_notices(connection, account)
        ways = self._ways(connection, account, now)
        if ways is None or not notices:
            return
        public_url = self._config.http.public_url
        for channel, address in ways:
            name, subject, event, text = message_of(notices, public_url, now)
            body = event if channel == "webhook" else text.encode()
            add_message(connection, account, (channel, address), subject, body, now, name=name)
        forget_notices(connection, account, notices[-1].id)

    async def _attempt(self, connections: httpcore.AsyncConnectionPool, message: Message) -> None:
        problem = await self.send(connections, message)
        if problem is not None:
            _log.warning(
                "a notification was not delivered",
                account=message.account,
                channel=message.channel,
                event_id=message.id,
                reason=problem.partition(":")[0],  # the rest quotes whoever answered
            )

        def note() -> None:
            with self._store.database.write() as connection:
                note_sent(connection, message, problem, self._clock.now())

        await trio.to_thread.run_sync(note)
        self._under_way.discard(message.id)

    async def send(self, connections: httpcore.AsyncConnectionPool, message: Message) -> str | None:
        """Try once; returns what went wrong."""
        if message.channel == "webhook":
            sign, at = self._store.signer.sign, self._clock.now()
            url, body = message.address, message.body
            return await post_signed(connections, url, message.id, body, sign, at)
        if self._mailer is None:
            return "no mail: notifications.smtp_host is empty"
        text = message.body.decode()
        return await self._mailer.send(message.address, message.subject, text, message.id)

    async def send_test(self) -> list[tuple[str, str | None]]:
        """Send the operator a message by each way, at once: (way, what went wrong)."""
        tls, found = httpx.create_ssl_context(), []
        with self._store.database.read() as connection:
            ways = self._wish(connection, OPERATOR).ways()
        async with _connections(tls, self._own_backend) as connections:
            for channel, address in ways:
                message = _test_message(channel, address, self._clock.now())
                found.append((channel, await self.send(connections, message)))
        return found


def _test_message(channel: str, address: str, at: float) -> Message:
    name, subject, event, text = message_of([Notice(0, OPERATOR, "test", {}, at)], "", at)
    body = event if channel == "webhook" else text.encode()
    return Message(name, OPERATOR, channel, address, subject, body, 0)


def _connections(tls: ssl.SSLContext, backend: PublicOnly) -> httpcore.AsyncConnectionPool:
    return httpcore.AsyncConnectionPool(
        ssl_context=tls,
        network_backend=backend,
        max_connections=_AT_ONCE,
        max_keepalive_connections=0,
    )

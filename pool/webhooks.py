"""Webhooks: customers hear of the end of their batches, and of corrections.

The form is that of the Standard Webhooks specification (1.0.0) with an Ed25519 signature, and the
bodies are those of OpenAI's webhooks. At least once each: an event is repeated, with longer and
longer pauses, until its receiver answers 2xx. Redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import socket
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any

import httpcore
import httpx
import structlog
import trio

from pool.clock import Clock
from pool.store import Store
from pool.store.webhooks import Event, due_events, has_news, note_attempt, write_events

_log = structlog.get_logger("pool.webhooks")

LOOK_SECONDS = 5.0
_ATTEMPT_SECONDS = 15.0
_AT_ONCE = 64
_OF_EACH = 4  # account's at once: who names a slow receiver waits for it alone
_LOOKUPS = 16  # names that are looked up at once, on threads of their own


class Webhooks:
    """Writes events and sends them. ``anywhere``: also to addresses that are not public."""

    def __init__(self, store: Store, clock: Clock, *, anywhere: bool) -> None:
        """Nothing is sent before ``run``."""
        self._store = store
        self._clock = clock
        self._backend = PublicOnly(anywhere=anywhere)
        self._under_way: set[str] = set()  # events
        self._ended = trio.Event()  # an attempt ended: there is room

    async def run(self) -> None:
        """Look for what is due until cancelled."""
        tls = httpx.create_ssl_context()
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=tls,
                network_backend=self._backend,
                max_connections=_AT_ONCE,
                max_keepalive_connections=0,
            ) as connections,
            trio.open_nursery() as nursery,
        ):
            while True:
                self._ended = trio.Event()
                before = set(self._under_way)  # what ends while we read is read as due
                begun = 0
                for event in await trio.to_thread.run_sync(self._due):
                    if len(self._under_way) < _AT_ONCE and event.id not in before:
                        self._under_way.add(event.id)
                        begun += 1
                        nursery.start_soon(self._attempt, connections, event)
                if not begun:
                    with trio.move_on_after(LOOK_SECONDS):
                        await self._ended.wait()

    def _due(self) -> list[Event]:
        now, database = self._clock.now(), self._store.database
        with database.read() as connection:
            news = has_news(connection)
        if news:  # mostly there is none: the write lock is left to others
            with database.write() as connection:
                write_events(connection, now)
        with database.read() as connection:
            # Those under way are due still, and the first of their accounts.
            return due_events(connection, now, _OF_EACH, 2 * _AT_ONCE)

    async def _attempt(self, connections: httpcore.AsyncConnectionPool, event: Event) -> None:
        problem = await self._send(connections, event)
        if problem is not None:
            _log.warning(
                "a webhook was not delivered",
                event_id=event.id,
                account=event.account,
                reason=problem.partition(":")[0],  # the rest quotes whoever answered
            )

        def note() -> None:
            with self._store.database.write() as connection:
                note_attempt(connection, event, problem, self._clock.now())

        await trio.to_thread.run_sync(note)
        self._under_way.remove(event.id)
        self._ended.set()

    async def _send(self, connections: httpcore.AsyncConnectionPool, event: Event) -> str | None:
        """Try once; returns what went wrong."""
        sign, at = self._store.signer.sign, self._clock.now()
        return await post_signed(connections, event.url, event.id, event.body, sign, at)


async def post_signed(
    connections: httpcore.AsyncConnectionPool,
    url: str,
    name: str,
    body: bytes,
    sign: Callable[[bytes], bytes],
    at: float,
) -> str | None:
    """Send an event once; returns what went wrong, None when it was heard."""
    timestamp = str(int(at))
    signature = b64encode(sign(f"{name}.{timestamp}.".encode() + body)).decode()
    headers = {
        "content-type": "application/json",
        "user-agent": "inferpool",
        "webhook-id": name,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1a,{signature}",
    }
    try:
        with trio.fail_after(_ATTEMPT_SECONDS):
            async with connections.stream(
                "POST", url, headers=list(headers.items()), content=body
            ) as answer:
                # Only its status counts: what it says may be long.
                return None if 200 <= answer.status < 300 else f"status {answer.status}"
    except trio.TooSlowError:
        return f"no answer within {_ATTEMPT_SECONDS:g} s"
    except Exception as error:
        # Whatever an address leads to is its receiver's affair, and never ends the pool.
        return f"{type(error).__name__}: {error}"[:200]


class PublicOnly(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, for customers name the hosts.

    A name is looked up here and the address that was checked is the one that is dialled, so a
    name that changes in between leads nowhere else.
    """

    def __init__(self, *, anywhere: bool) -> None:
        """``anywhere``: check nothing."""
        self._anywhere = anywhere
        self._backend = httpcore.TrioBackend()
        # A look-up that nobody waits for any more keeps its thread until the resolver gives up.
        self._lookups = trio.CapacityLimiter(_LOOKUPS)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Dial ``host``. Raises ``httpcore.ConnectError``."""
        if self._anywhere:
            address = host
        else:
            address = await self._public_address(host, port)
        return await self._backend.connect_tcp(
            address, port, timeout, local_address, socket_options
        )

    async def sleep(self, seconds: float) -> None:
        """As asked."""
        await trio.sleep(seconds)

    async def _public_address(self, host: str, port: int) -> str:
        try:
            found = await trio.to_thread.run_sync(
                lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM),
                limiter=self._lookups,
                abandon_on_cancel=True,
            )
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be looked up: {error}") from None
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            # Whoever answers with one that is not public is not trusted with the others either.
            if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
                raise httpcore.ConnectError(f"{host} is at {address}, which is not public")
        if not addresses:
            raise httpcore.ConnectError(f"{host} has no address")
        return addresses[0]


_UNICAST = ipaddress.ip_network("2000::/3")
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32")))


def _is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Global unicast, and no IPv6 address that stands for another network's IPv4 address."""
    if not ip.is_global or ip.is_multicast:
        return False
    return ip.version == 4 or (ip in _UNICAST and not any(ip in net for net in _TUNNELS))

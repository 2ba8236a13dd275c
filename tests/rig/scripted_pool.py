"""A pool that does what a test says: the protocol's own pool end, with no board behind it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec
import numpy as np
import trio
import trio.testing

from gpu_worker.config import PoolAddress
from stratum import messages as wire
from stratum.arrays import pack_rows, unpack_outcome
from stratum.client import RigConnection
from stratum.errors import ConnectionClosed, code_of
from stratum.manifest import BLAKE2B, Manifest, encode_manifest, manifest_digest
from stratum.server import PoolConnection

ADDRESS = PoolAddress("pool.example", 3333)
BLAKE2B_TEXT = encode_manifest(BLAKE2B)
BLAKE2B_DIGEST = manifest_digest(BLAKE2B_TEXT)
M = TypeVar("M")


def rows_of(count: int, tokens: int = 3) -> list[list[int]]:
    """``count`` rows that differ from one another."""
    return [[row * 1000 + token for token in range(tokens)] for row in range(count)]


def digests_of(rows: list[list[int]]) -> list[bytes]:
    """What the model ``blake2b`` must give for each row, computed here by itself."""
    return [blake2b(np.array(row, "<u4").tobytes(), digest_size=32).digest() for row in rows]


class PoolSession:
    """One connection of a rig, as the scripted pool sees it."""

    def __init__(self, pool: ScriptedPool, connection: PoolConnection) -> None:
        self.pool = pool
        self.connection = connection
        self.received: list[Any] = []
        self.authorised = False
        self.over = False

    def of(self, kind: type[M]) -> list[M]:
        """The messages of one kind that came so far."""
        return [message for message in self.received if isinstance(message, kind)]

    def give(self, lease: int, rows: list[list[int]], model: str = BLAKE2B_DIGEST) -> None:
        """Send a share."""
        lengths = np.array([len(row) for row in rows], np.uint32)
        tokens = np.array([token for row in rows for token in row], np.uint32)
        self.connection.queue(
            wire.Notify(0, lease, model, "digest", 60.0, pack_rows(lengths, tokens))
        )

    def tell(self, message: Any) -> None:
        """Send any notification."""
        self.connection.queue(message)

    def announce(self, manifest: Manifest, urls: dict[str, str]) -> str:
        """Announce a model; returns its digest."""
        text = encode_manifest(manifest)
        digest = manifest_digest(text)
        files = tuple(wire.FileLocation(name, url) for name, url in urls.items())
        self.tell(wire.Model(0, digest, text, files))
        return digest

    async def cut(self) -> None:
        """Lose the connection without a word."""
        await trio.aclose_forcefully(self.connection.stream)


class ScriptedPool:
    """Accepts rigs, announces ``blake2b``, takes parts; each of these can be changed.

    ``on_submit`` is called with the session and each part; what it returns is the reason of a
    refusal, or None to accept, or ``"silence"`` to give no answer.
    """

    def __init__(self, nursery: trio.Nursery, address: PoolAddress = ADDRESS) -> None:
        self.address = address
        self.dials: list[float] = []  # when rigs dialled, on the trio clock
        self.dialled: list[PoolAddress] = []
        self.sessions: list[PoolSession] = []
        self.down = False
        self.deny = ""  # the reason for which authorisation is refused
        self.on_submit: Callable[[PoolSession, wire.Submit], str | None] = lambda *_: None
        self.results: dict[int, dict[int, bytes]] = {}  # {lease: {row: digest}}
        self.announced = True
        self.greeting: dict[str, Any] = {}  # what the answer to ``configure`` holds besides
        self.mute = False  # take requests and answer none
        self._nursery = nursery
        self._news = trio.Event()

    async def connector(self, address: PoolAddress) -> RigConnection:
        """What a rig dials with."""
        self.dials.append(trio.current_time())
        self.dialled.append(address)
        self.tell_waiters()
        if self.down:
            raise ConnectionRefusedError("nobody listens")
        rig_side, pool_side = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.serve, pool_side)
        return RigConnection(rig_side, host=address.host)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection; usable as the handler of real listeners too."""
        connection = PoolConnection(stream)
        session = PoolSession(self, connection)
        self.sessions.append(session)
        try:
            async with connection:
                while True:
                    for message in await connection.receive():
                        self._answer(session, message)
        except ConnectionClosed:
            pass
        finally:
            session.over = True
            self.tell_waiters()

    def tell_waiters(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until a condition holds; it is looked at after each message, and now and then."""
        with trio.fail_after(3600):
            while not condition():
                with trio.move_on_after(0.1):
                    await self._news.wait()

    async def session(self, number: int = 0) -> PoolSession:
        """The authorised session of this number, once its rig can take shares."""
        await self.until(lambda: len(self.authorised) > number)
        session = self.authorised[number]
        if self.announced:
            await self.until(lambda: session.of(wire.ModelReady))
        return session

    @property
    def authorised(self) -> list[PoolSession]:
        return [session for session in self.sessions if session.authorised]

    def rows(self, lease: int) -> list[bytes]:
        """The results of a share so far, in the order of its rows."""
        return [value for _, value in sorted(self.results.get(lease, {}).items())]

    def _answer(self, session: PoolSession, message: wire.FromRig) -> None:
        session.received.append(message)
        connection = session.connection
        match message:
            case _ if self.mute:
                pass
            case wire.Configure():
                limits = {"protocol": 1, "agent": "scripted", "max_frame": 8 << 20, "keepalive": 60}
                connection.accept(message, limits | self.greeting)
            case wire.Subscribe():
                connection.accept(message, [f"s{len(self.sessions)}", bool(message.session)])
            case wire.Authorize() if self.deny:
                connection.refuse(message, code_of(self.deny), self.deny)
            case wire.Authorize():
                connection.accept(message)
                session.authorised = True
                if self.announced:
                    session.announce(BLAKE2B, {})
            case wire.Submit():
                self._take(session, message)
            case _:
                connection.accept(message)
        self.tell_waiters()

    def _take(self, session: PoolSession, part: wire.Submit) -> None:
        reason = self.on_submit(session, part)
        if reason == "silence":
            return
        if reason is not None:
            session.connection.refuse(part, code_of(reason), reason)
            return
        values, failed = unpack_outcome(part.outcome, "|u1", 32)
        assert not failed
        rows = self.results.setdefault(part.lease, {})
        for row, value in enumerate(values, part.first_row):
            rows[row] = value.tobytes()
        session.connection.accept(part)


def as_dict(manifest: Manifest) -> dict[str, Any]:
    """A manifest as engines get it."""
    return dict(msgspec.to_builtins(manifest))

"""The rig: connects to a pool for ever, stages its models, computes its shares.

Computing and talking are two loops joined by a ``ShareBook``. A lost connection does not stop
the first; what it makes is sent when the second is back.
"""

from __future__ import annotations

import random as random_module
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

import structlog
import trio

from gpu_worker.bell import Bell
from gpu_worker.compute import Computer
from gpu_worker.config import PoolAddress, RigConfig
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.devices.local import EngineFactory, Offload
from gpu_worker.devices.opening import in_thread, make_device
from gpu_worker.devices.seats import OpenDevice, Seat
from gpu_worker.downloads import ModelCache
from gpu_worker.engine import load_engine
from gpu_worker.failover import Failover
from gpu_worker.grouped import first_of
from gpu_worker.models import Models, StagedModel
from gpu_worker.nvml import open_nvml
from gpu_worker.receipts import ReceiptKeeper
from gpu_worker.sensors import Sensors
from gpu_worker.session import Session
from gpu_worker.sharebook import Part, ShareBook
from gpu_worker.telemetry import DeviceTelemetry, Telemetry
from stratum import messages as wire
from stratum.client import Handshake, RigConnection, connect
from stratum.errors import Code, ConnectionClosed, ProtocolViolation, Refusal, code_of, words_of
from stratum.messages import Model, Reconnect

log = structlog.get_logger()

Connector = Callable[[PoolAddress], Awaitable[RigConnection]]
"""Dials a pool. Raises ``OSError`` when it cannot be reached."""

_HANDSHAKE_SECONDS = 30.0
_GOODBYE_SECONDS = 3.0
"""How long a rig that leaves waits for the answers to its releases."""
_MOST_CREDIT = 64
_LATE_SECONDS = 60.0
"""How long a rig with a device that is ready waits for the others before it joins a pool."""


class NoDevices(Exception):  # noqa: N818 - named for what happened
    """Every device of the rig is left out; the text says why the last one is."""


@dataclass(slots=True)
class _Upstream:
    """A pool and what this rig owes it. Leases mean nothing to another pool."""

    address: PoolAddress
    session: str = ""  # the last session's name, to resume it
    book: ShareBook = field(default_factory=ShareBook)


class Rig:
    """One rig. ``run`` returns after ``stop``.

    ``engine_factory`` loads engines in this process, ``offload`` runs one step of such an engine
    off the event loop, ``connector`` dials pools and ``open_device`` makes devices; a simulation
    on a virtual clock gives its own.
    """

    def __init__(
        self,
        config: RigConfig,
        *,
        engine_factory: EngineFactory = load_engine,
        connector: Connector | None = None,
        offload: Offload | None = None,
        open_device: OpenDevice | None = None,
        telemetry: Telemetry | None = None,
        random: random_module.Random | None = None,
    ) -> None:
        self.config = config
        self.telemetry = telemetry or Telemetry()
        self._connector = connector or self._dial

        open_device = open_device or partial(
            make_device, factory=engine_factory, offload=offload or in_thread
        )
        specs = config.devices or (DeviceSpec(0, "cpu", config.backend, threads=config.threads),)
        self.telemetry.devices = [DeviceTelemetry(spec.name) for spec in specs]
        self._seats = [
            Seat(spec, counters, open_device)
            for spec, counters in zip(specs, self.telemetry.devices, strict=True)
        ]
        self._patience = _LATE_SECONDS
        self._seat_news = trio.Event()  # set and replaced when a seat opens or closes
        cache = ModelCache(config.cache, limit=config.cache_limit, tls=_tls(config))
        self._receipts = (
            ReceiptKeeper(config.receipts, config.user, config.token, _tls(config))
            if config.receipts
            else None
        )
        self._models = Models(cache, self._seats, self.telemetry, self.changed)
        self._computer = Computer(config, self._models, self._seats, self.telemetry, self.changed)
        # Jitter is no secret; it only has to differ from rig to rig.
        self._failover = Failover(config, random or random_module.Random())  # noqa: S311
        self._upstreams = {address: _Upstream(address) for address in config.pools}
        self._upstream = self._upstreams[config.pools[0]]
        self._session: Session | None = None
        self._redirect: PoolAddress | None = None
        self._work = Bell()
        self._progress = trio.Event()  # set and replaced at every change
        self._stop = trio.Event()
        self._nursery: trio.Nursery | None = None

    @property
    def shares_in_hand(self) -> int:
        """Shares leased by the present pool and not yet acknowledged in full."""
        return len(self._upstream.book)

    def stop(self) -> None:
        """Take no more shares, finish the one that is computing if it can be, and leave."""
        self._stop.set()

    async def run(self) -> None:
        """Serve the pools until ``stop``, then drain for ``config.drain`` seconds at most.

        Raises ``NoDevices`` when no device is left to compute on.
        """
        account, _, rig = self.config.user.partition(".")
        structlog.contextvars.bind_contextvars(account=account, rig=rig)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for seat in self._seats:
                    nursery.start_soon(seat.run, self)
                if any(seat.spec.backend == "cupy" for seat in self._seats):
                    nursery.start_soon(self._watch_sensors)
                nursery.start_soon(self._compute_forever)
                nursery.start_soon(self._connect_forever)
                if self._receipts is not None:
                    nursery.start_soon(self._receipts.run)
                await self._stop.wait()
                await self._drain()
                nursery.cancel_scope.cancel()
        except* NoDevices as group:
            raise NoDevices(*group.exceptions[0].args) from None
        finally:
            self._models.close()
        log.info("rig stopped", rows=self.telemetry.rows, shares=self.telemetry.shares_done)

    # ── what sessions, models and the computer call ──────────────────────────

    def stage(self, message: Model, resolve: Callable[[str], str]) -> StagedModel:
        """Begin to stage a model; it goes on when the session ends."""
        assert self._nursery is not None
        return self._models.stage(message, resolve, self._nursery)

    def changed(self) -> None:
        """There may be something to compute, to send, or to show."""
        book = self._upstream.book
        self.telemetry.shares_in_hand = len(book)
        self.telemetry.unacknowledged_bytes = book.unacknowledged_bytes
        self._work.ring()
        self._progress.set()
        self._progress = trio.Event()
        if self._session is not None:
            self._session.pump()

    def part_acknowledged(self, part: Part) -> None:
        """The pool says that a part is durable."""
        if self._receipts is not None:
            self._receipts.acknowledged(self._upstream.address, part)

    # ── what seats call ──────────────────────────────────────────────────────

    def seat_opened(self, seat: Seat) -> None:
        """A device is ready: load on it what is staged."""
        assert self._nursery is not None
        self._nursery.start_soon(self._models.load_all_on, seat)
        self._tell_seat_news()

    def seat_closed(self, seat: Seat) -> None:
        """A device is gone. Its shares are handed back by whoever waits for their rows."""
        assert self._nursery is not None
        if self._session is None:
            pass
        elif not self._devices_open:
            self._nursery.start_soon(self._leave_for_want_of_devices, self._session)
        elif seat.out is not None:
            # Only a new session can tell the pool that there is one device less.
            self._session.leave()
        self._tell_seat_news()

    @property
    def _devices_open(self) -> bool:
        return any(seat.device is not None for seat in self._seats)

    def _tell_seat_news(self) -> None:
        self._seat_news.set()
        self._seat_news = trio.Event()
        self.changed()

    async def _leave_for_want_of_devices(self, session: Session) -> None:
        """Hand everything back at once; the pool is dialled again when a device is ready."""
        session.accepting = False
        book = self._upstream.book
        for share in book:
            if not share.computed:
                book.release(share.lease, "compute_failed")
                self.telemetry.shares_lost["released"] += 1
        self.changed()
        with trio.move_on_after(_GOODBYE_SECONDS):
            while book.releases and self._session is session:
                await self._progress.wait()
        session.leave()

    async def _wait_for_devices(self) -> None:
        """Return once a device is ready, and at the start the others have had time to be."""
        while not self._devices_open:
            if all(seat.out is not None for seat in self._seats):
                raise NoDevices("; ".join(f"{s.spec.name}: {s.out}" for s in self._seats))
            await self._seat_news.wait()
        with trio.move_on_after(self._patience):
            for seat in self._seats:
                await seat.settled.wait()
        self._patience = 0.0

    async def _watch_sensors(self) -> None:
        nvml = await trio.to_thread.run_sync(open_nvml)
        if nvml is None:
            log.info("no sensors", remedy="install nvidia-ml-py to see power and temperature")
            return
        try:
            await Sensors(nvml, self.telemetry.devices).watch()
        finally:
            nvml.close()

    def _device_list(self) -> tuple[wire.Device, ...]:
        return tuple(
            wire.Device(seat.spec.index, seat.kind, seat.memory)
            for seat in self._seats
            if seat.out is None
        )

    @property
    def _credit(self) -> int:
        """Shares to hold at once: the configured number for each device."""
        return min(_MOST_CREDIT, self.config.credit * len(self._device_list()))

    # ── computing ────────────────────────────────────────────────────────────

    async def _compute_forever(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                self._computer.deal(self._upstream.book, nursery)
                await self._work.wait()

    # ── connecting ───────────────────────────────────────────────────────────

    async def _connect_forever(self) -> None:
        while True:
            await self._wait_for_devices()
            wait = self._failover.wait(trio.current_time())
            if wait > 0:
                log.info(
                    "waiting to connect", pool=str(self._failover.current), seconds=round(wait, 1)
                )
            await trio.sleep(wait)
            await self._connect_once()

    async def _connect_once(self) -> None:
        """One try at one pool, and the session that comes of it; judges how it ended."""
        address = self._failover.current
        target, self._redirect = self._redirect or address, None
        self._upstream = self._upstreams[address]
        self.telemetry.pool = str(target)
        began = trio.current_time()
        session = None
        try:
            connection = await self._connector(target)
            async with connection:
                session = await self._open(connection)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._return_to_first, session)
                    await session.run()
                    nursery.cancel_scope.cancel()
        except Exception as error:
            failure: Exception | None = first_of(error)
        else:
            failure = None
        finally:
            self._session = None
            self.telemetry.connected = False
            self._upstream.book.disconnected()
            self.changed()
            structlog.contextvars.unbind_contextvars("session")
        lasted = trio.current_time() - began
        good = session is not None and (
            session.acknowledged > 0 or lasted >= self.config.good_session
        )
        self._judge(str(target), failure, good)
        if session is not None and session.reconnect is not None:
            self._follow(target, session.reconnect)

    async def _open(self, connection: RigConnection) -> Session:
        """Shake hands and begin a session."""
        upstream = self._upstream
        credit = self._credit
        handshake = await self._shake_hands(connection, upstream.session, credit)
        upstream.session = handshake.session
        structlog.contextvars.bind_contextvars(session=handshake.session)
        self.telemetry.sessions += 1
        self.telemetry.connected = True
        self._computer.sizer.fit(handshake.max_frame)
        if self._receipts is not None:
            self._receipts.connected(upstream.address, handshake.web)
        log.info(
            "connected",
            pool=self.telemetry.pool,
            agent=handshake.agent,
            resumed=handshake.resumed,
            shares_in_hand=len(upstream.book),
        )
        self._session = Session(
            connection, upstream.book, self._models, self.telemetry, self, credit
        )
        self._session.accepting = not self._stop.is_set()
        return self._session

    async def _shake_hands(self, connection: RigConnection, session: str, credit: int) -> Handshake:
        with trio.fail_after(_HANDSHAKE_SECONDS):
            return await connection.handshake(
                agent=f"inferpool/{version('inferpool')}",
                session=session,
                credit=credit,
                devices=self._device_list(),
                user=self.config.user,
                token=self.config.token,
            )

    def _judge(self, pool: str, failure: Exception | None, good: bool) -> None:
        """Say why a try or a session ended, and decide when the next may begin."""
        now = trio.current_time()
        match failure:
            case None:
                pass
            case Refusal() if failure.code in (Code.UNAUTHORIZED, Code.BANNED):
                _log_denial(pool, failure.reason, failure.message)
                self._failover.denied(now)
                return
            case ConnectionClosed() if _is_denial(failure.reason):
                _log_denial(pool, failure.reason, failure.message)
                self._failover.denied(now)
                return
            case ConnectionClosed() | Refusal():
                good = good and code_of(failure.reason) is not Code.LIMIT
                text = failure.message or words_of(failure.reason)
                log.warning("connection ended", pool=pool, reason=failure.reason, text=text)
            case ProtocolViolation():
                log.error("the pool broke the protocol", pool=pool, reason=str(failure))
            case trio.TooSlowError():
                log.warning("the pool does not answer", pool=pool, seconds=_HANDSHAKE_SECONDS)
            case OSError():
                log.warning("the pool cannot be reached", pool=pool, reason=str(failure))
            case _:
                # Our own fault: it costs this session, not the shares in hand.
                log.error("session failed", pool=pool, exc_info=failure)
        if good or failure is None:
            self._failover.succeeded(now)
        else:
            self._failover.failed(now)

    def _follow(self, dialled: PoolAddress, message: Reconnect) -> None:
        """Do as ``client.reconnect`` says, within the name that the miner gave.

        A pool may send its rigs to another port or to a host below its own name. To follow it
        anywhere would let one false message take a rig, and its token, to a thief.
        """
        if message.wait > 0:
            self._failover.pause(trio.current_time(), message.wait)
        named = self._upstream.address.host
        host, port = message.host or dialled.host, message.port or dialled.port
        if host != named and not host.endswith(f".{named}"):
            log.warning("not following the pool to a foreign host", host=host)
        elif (host, port) != (named, self._upstream.address.port):
            self._redirect = PoolAddress(host, port, dialled.tls)

    async def _return_to_first(self, session: Session) -> None:
        """On a lesser pool: look for the first now and then; when it is back, go there."""
        if self._failover.on_first:
            return
        while True:
            first = self.config.pools[0]
            self._failover.first_failed(trio.current_time())
            await trio.sleep(self._failover.wait_for_first(trio.current_time()))
            try:
                connection = await self._connector(first)
                async with connection:
                    await self._shake_hands(connection, "", 1)
            except (OSError, trio.TooSlowError, Refusal, ConnectionClosed, ProtocolViolation):
                continue
            log.info("the preferred pool is back", pool=str(first))
            await self._hand_in(session)
            self._failover.return_to_first()
            session.leave()
            return

    # ── leaving ──────────────────────────────────────────────────────────────

    async def _hand_in(self, session: Session | None) -> None:
        """Hand back what nobody has begun, finish the rest in ``config.drain`` seconds."""
        book = self._upstream.book
        if session is not None:
            session.accepting = False
        for share in book:
            if not share.started:
                book.release(share.lease, "stopping")
        self.changed()
        with trio.move_on_after(self.config.drain):
            while len(book):
                await self._progress.wait()
        for share in book:
            book.release(share.lease, "stopping")
        self.changed()
        with trio.move_on_after(_GOODBYE_SECONDS):
            while book.releases and self._session is not None:
                await self._progress.wait()

    async def _drain(self) -> None:
        log.info("stopping", shares_in_hand=self.shares_in_hand, seconds=self.config.drain)
        await self._hand_in(self._session)

    async def _dial(self, address: PoolAddress) -> RigConnection:
        return await connect(str(address), ca_file=self.config.ca)


def _tls(config: RigConfig) -> ssl.SSLContext | bool:
    return True if config.ca is None else ssl.create_default_context(cafile=config.ca)


def _is_denial(reason: str) -> bool:
    """Whether a connection ended because of who this rig is, so that trying again soon is vain."""
    if reason == "authorise_timeout":
        return False
    return reason == "replaced" or code_of(reason) in (Code.UNAUTHORIZED, Code.BANNED)


def _log_denial(pool: str, reason: str, message: str) -> None:
    log.error(
        "the pool denies this rig", pool=pool, reason=reason, text=message or words_of(reason)
    )

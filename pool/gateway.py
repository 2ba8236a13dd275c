"""The gateway: rigs' connections. Frames become events, the board's messages become frames."""

from __future__ import annotations

import ipaddress
import secrets
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never

import numpy as np
import structlog
import trio
from numpy.typing import NDArray

import stratum
from pool.accounts import Account, split_user
from pool.computed import Computed
from pool.config import HttpConfig, StratumConfig
from pool.core import Core
from pool.court import Court
from pool.hardware import Hardware, Meter, meter_of
from pool.models import Models, RegisteredModel
from pool.store.accounts import account_by_token
from pool.store.payees import Payee, payee_of, payees_of
from shares.board.effects import (
    Accepted,
    Cancel,
    Disconnect,
    Message,
    Notify,
    Refused,
    SetDifficulty,
)
from shares.board.events import (
    AccountClosed,
    DifficultySuggested,
    KindsQuarantined,
    LeaseReleased,
    ModelStaged,
    ModelUnstaged,
    PartMalformed,
    SessionOpened,
)
from shares.results import part_record, row_digests, rows_of
from stratum import messages as wire
from stratum.arrays import pack_rows, unpack_outcome
from stratum.errors import ArrayError, Code, ConnectionClosed, ProtocolViolation
from stratum.server import PoolConnection

_log = structlog.get_logger("pool.gateway")

_MAX_CREDIT = 64  # shares that one rig may hold


@dataclass(slots=True)
class GatewayStatistics:
    """Counted since the start, for metrics."""

    opened: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # {why a connection was not taken: n}
    authorisations: Counter[str] = field(default_factory=Counter)  # {outcome: n}
    violations: Counter[str] = field(default_factory=Counter)  # {reason: n}
    malformed: Counter[str] = field(default_factory=Counter)  # {reason: n}
    traffic: Counter[str] = field(default_factory=Counter)  # of connections that ended


class Gateway:
    """Every connection of every rig."""

    def __init__(
        self,
        core: Core,
        models: Models,
        court: Court,
        config: StratumConfig,
        http: HttpConfig,
        *,
        first_session: int = 1,
        new_name: Callable[[], str] = lambda: secrets.token_hex(8),
        http_port: int = 0,
    ) -> None:
        """``new_name`` names sessions; a simulation passes a deterministic one."""
        self.core = core
        self.models = models
        self.court = court
        self.config = config
        self.hardware = Hardware(core)
        self.statistics = GatewayStatistics()
        self.stopping = False
        self.http_port = http_port
        self._http = http
        self._next_session = first_session
        self.new_name = new_name
        self._sessions: dict[int, _Session] = {}  # authorised ones
        self._connections: set[PoolConnection] = set()
        self.quarantined: frozenset[tuple[str, str]] = frozenset()  # (model, kind of device)
        self._per_address: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """Connections open now, authorised or not."""
        return sum(self._per_address.values())

    @property
    def sessions(self) -> int:
        """Authorised sessions open now."""
        return len(self._sessions)

    @property
    def traffic(self) -> Counter[str]:
        """Bytes and frames, in and out, of all connections there ever were."""
        total = Counter(self.statistics.traffic)
        for connection in self._connections:
            total.update(_traffic(connection))
        return total

    @property
    def declared_rate(self) -> float:
        """Work a second that rigs say they do, by the difficulty that they suggest."""
        suggested = sum(session.suggested for session in self._sessions.values())
        return suggested / self.core.board.policy.target_share_seconds

    async def serve_stream(self, stream: trio.abc.Stream, address: str = "") -> None:
        """Serve one connection to its end. Nothing that happens to it reaches the others."""
        if self.connections >= self.config.max_connections:
            self.statistics.refused["max_connections"] += 1
            await trio.aclose_forcefully(stream)
            return
        if address and self._per_address[address] >= self.config.max_connections_per_address:
            self.statistics.refused["max_connections_per_address"] += 1
            await trio.aclose_forcefully(stream)
            return
        self._per_address[address] += 1
        self.statistics.opened += 1
        connection = PoolConnection(
            stream,
            authorise_timeout=self.config.authorise_seconds,
            max_frame=self.config.max_frame_bytes,
            max_buffered=self.config.max_buffered_bytes,
            keepalive=self.config.keepalive_seconds,
        )
        self._connections.add(connection)
        session = _Session(self, connection, self._next_session, address)
        self._next_session += 1
        structlog.contextvars.bind_contextvars(connection=session.number)
        try:
            async with connection:
                await session.run()
        except ConnectionClosed as error:
            session.log.debug("connection closed", reason=str(error))
        except ProtocolViolation as error:
            self.statistics.violations[error.reason] += 1
            session.log.info("connection refused", reason=error.reason, detail=str(error))
        except (OSError, ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            session.log.debug("connection lost", error=str(error))
        except Exception:
            # Our own fault: this session fails alone, and the operator hears of it.
            self.statistics.violations["internal_error"] += 1
            session.log.exception("session failed")
        finally:
            session.end()
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
            self._connections.discard(connection)
            self.statistics.traffic.update(_traffic(connection))

    def announce(self, models: list[RegisteredModel]) -> None:
        """Tell every rig of new models."""
        for session in self._sessions.values():
            for model in models:
                session.announce(model)

    def tell(self, account: str, text: str) -> None:
        """Show ``text`` to the operator of the account's rigs."""
        for session in self._sessions.values():
            if session.account == account:
                session.tell(text)

    def accounts(self) -> set[str]:
        """The accounts that have rigs here now."""
        return {session.account for session in self._sessions.values()}

    def drop_account(self, account: str) -> None:
        """The account was closed: its rigs leave when they have finished what they hold."""
        for session in list(self._sessions.values()):
            if session.account == account and session.judges:
                session.dismiss("closed_account")
        self.core.handle(AccountClosed(at=self.core.clock.now(), account=account))

    def quarantine(self, kinds: frozenset[tuple[str, str]]) -> None:
        """These (model, kind of device) are in quarantine now, and no others."""
        if kinds == self.quarantined:
            return
        new, self.quarantined = kinds - self.quarantined, kinds
        self.core.handle(KindsQuarantined(at=self.core.clock.now(), kinds=kinds))
        for session in self._sessions.values():
            session.tell_quarantined(new)

    def say_goodbye(self, wait: float) -> None:
        """The pool stops: rigs keep what they have and come back after ``wait`` seconds."""
        self.stopping = True
        for session in self._sessions.values():
            session.connection.queue(wire.Reconnect(0, "", 0, wait))

    @property
    def web(self) -> str:
        """Where rigs find the HTTP side; ``:PORT`` stands for the host that they dialled."""
        return self._http.public_url.rstrip("/") or f":{self.http_port}"

    def file_url(self, sha256: str) -> str:
        """Where a rig fetches a model's file."""
        return f"{self.web}/api/v1/models/files/{sha256}"

    def opened(self, session: _Session) -> None:
        """An authorised session."""
        self._sessions[session.number] = session

    def closed(self, session: _Session) -> None:
        """It is over."""
        self._sessions.pop(session.number, None)


def _traffic(connection: PoolConnection) -> dict[str, int]:
    return {
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
        "frames_in": connection.frames_in,
        "frames_out": connection.frames_out,
    }


class _Session:
    """One connection: what it said so far, and the board's voice towards it."""

    def __init__(
        self, gateway: Gateway, connection: PoolConnection, number: int, address: str
    ) -> None:
        self.number = number
        self.connection = connection
        self.account = ""  # known once it is authorised
        self.log = _log.bind(connection=number, address=address)
        self._gateway = gateway
        self._core = gateway.core
        self._address = address
        self._credit = 1
        self.suggested = 0
        self.kinds: tuple[str, ...] = ()
        self._meter = Meter()
        self._resumed = False
        self._authorised = False
        self.judges = False  # a rig that the operator named as the referee's: not the board's
        self._models: dict[str, RegisteredModel] = {}  # {digest: announced}
        self._lease_models: dict[int, str] = {}  # {lease: digest}

    async def run(self) -> None:
        """Read messages until the connection ends or the board says so."""
        while True:
            for message in await self.connection.receive():
                # Only results fill the memory: who knocks or hands back need not wait.
                while isinstance(message, wire.Submit) and not self._core.room.is_set():
                    await self._core.room.wait()
                await self._received(message)

    def end(self) -> None:
        """The connection is gone."""
        self._gateway.closed(self)
        if self.judges:
            self._gateway.court.closed(self.number)
        elif self._authorised:
            self._core.detach(self.number)

    def _bind(self, **ids: str) -> None:
        """Ids for every line about this rig: of this task, and of messages sent from others."""
        self.log = self.log.bind(**ids)
        structlog.contextvars.bind_contextvars(**ids)

    # ── from the rig ─────────────────────────────────────────────────────────

    async def _received(self, message: wire.FromRig) -> None:
        now = self._core.clock.now()
        match message:
            case wire.Configure():
                self._configure(message)
            case wire.Subscribe():
                self._credit = max(1, min(_MAX_CREDIT, message.credit))
                # A rig that names a session has its shares still, whichever boot it is from.
                self._resumed = bool(message.session)
                self._meter = meter_of((device.kind for device in message.devices), now)
                self.kinds = tuple(dict.fromkeys(device.kind for device in message.devices))
                name = self._gateway.new_name()
                self._bind(session=name)
                self.connection.accept(message, [name, self._resumed])
            case wire.Authorize():
                await self._authorise(message)
            case wire.SuggestDifficulty():
                self.connection.accept(message)
                if message.work > 0 and self._authorised and not self.judges:
                    self._core.handle(
                        DifficultySuggested(at=now, session=self.number, work=message.work)
                    )
                else:
                    self.suggested = max(0, message.work)
            case wire.ModelReady():
                self.connection.accept(message)
                if self.judges:
                    self._gateway.court.staged(self.number, message.model)
                elif message.model in self._models:
                    self._core.handle(ModelStaged(at=now, session=self.number, model=message.model))
            case wire.ModelFailed():
                self.connection.accept(message)
                self.log.warning(
                    "rig cannot compute a model", model=message.model, reason=message.reason[:200]
                )
                if self.judges:
                    self._gateway.court.unstaged(self.number, message.model)
                elif message.model in self._models:
                    self._core.handle(
                        ModelUnstaged(at=now, session=self.number, model=message.model)
                    )
            case wire.Submit() if self.judges:
                self._answer_court(message)
            case wire.Submit():
                self._submit(message)
            case wire.Release() if self.judges:
                self._gateway.court.failed(self.number, message.lease, message.reason)
                self.connection.accept(message)
            case wire.Release():
                self._core.handle(
                    LeaseReleased(
                        at=now,
                        session=self.number,
                        request=message.id,
                        lease=message.lease,
                        reason=message.reason[:64],
                    )
                )
            case wire.Ping():
                self.connection.accept(message)
            case wire.Result() | wire.Error():
                pass  # the answer to our keep-alive
            case _:
                assert_never(message)

    def _configure(self, message: wire.Configure) -> None:
        if message.protocol != wire.PROTOCOL:
            self.connection.refuse(
                message,
                Code.NOT_CONFIGURED,
                "wrong_protocol",
                f"this pool speaks protocol {wire.PROTOCOL}, not {message.protocol}",
            )
            return
        config = self._gateway.config
        self.connection.accept(
            message,
            {
                "protocol": wire.PROTOCOL,
                "agent": f"inferpool/{stratum.VERSION}",
                "max_frame": config.max_frame_bytes,
                "keepalive": config.keepalive_seconds,
                "time": self._core.clock.now(),
                "web": self._gateway.web,
            },
        )

    def _look_up(self, token: str) -> tuple[Account | None, tuple[str, ...], Payee | None]:
        """Whose token it is, and where they are paid: all addresses that count, and the present.

        A new address makes nobody a stranger while pay of before it may be held.
        """
        since = self._core.clock.now() - self._core.board.policy.hold_seconds
        with self._core.store.database.read() as connection:
            account = account_by_token(connection, token)
            if account is None:
                return None, (), None
            name = account.name
            return account, payees_of(connection, name, since), payee_of(connection, name)

    async def _authorise(self, message: wire.Authorize) -> None:
        outcomes = self._gateway.statistics.authorisations
        if self._gateway.stopping:
            self.connection.refuse(message, Code.OTHER, "stopping", "the pool is stopping")
            return
        try:
            account_name, rig = split_user(message.user)
        except ValueError as error:
            outcomes["bad_user"] += 1
            self.connection.refuse(message, Code.UNAUTHORIZED, "bad_user", str(error))
            return
        account, payees, payee = await self._core.in_thread(self._look_up, message.token)
        if account is None or account.name != account_name or account.role != "miner":
            # One answer for all three: a name must not be probed for without its token.
            outcomes["bad_token"] += 1
            self.log.info(
                "authorisation refused", account=account_name, rig=rig, reason="bad_token"
            )
            self.connection.refuse(
                message,
                Code.UNAUTHORIZED,
                "bad_token",
                f"the token does not open the miner account {account_name!r}",
            )
            return
        if until := self._core.board.banned_until(account_name):
            outcomes["banned"] += 1
            self.connection.refuse(
                message, Code.BANNED, "banned", f"{message.user} is banned until {_time(until)}"
            )
            return
        if until := self._core.aside.until(account_name):
            outcomes["set_aside"] += 1
            self.connection.refuse(
                message,
                Code.OTHER,
                "pool_fault",
                f"the pool failed on a message of this account; it may come back at {_time(until)},"
                " and nothing is charged",
            )
            return
        outcomes["ok"] += 1
        self._authorised = True
        self.account = account_name
        self._bind(account=account_name, rig=rig)
        self.connection.accept(message)
        self._gateway.opened(self)
        if self._gateway.court.names(message.user):
            self.judges = True
            self._gateway.court.opened(self.number, message.user, self)
            for model in self._gateway.models.list():
                self.announce(model)
            return
        self._core.attach(self.number, account_name, self)
        self._core.handle(
            SessionOpened(
                at=self._core.clock.now(),
                session=self.number,
                account=account_name,
                rig=rig,
                credit=self._credit,
                group=network_group(self._address),
                payees=payees,
                kinds=self.kinds,
                suggested=self.suggested,
                resumed=self._resumed,
            )
        )
        self.log.info("rig connected", credit=self._credit)
        if payee is not None and payee.usable > self._core.clock.now():
            self.tell(payee.news())
        for model in self._gateway.models.list():
            self.announce(model)
        self.tell_quarantined(self._gateway.quarantined)

    def tell_quarantined(self, kinds: frozenset[tuple[str, str]]) -> None:
        """Tell the rig which of its kinds of devices are kept from which model."""
        for model, kind in sorted(kinds):
            if kind in self.kinds:
                text = (
                    f"quarantined: {kind} gets no shares of model {model} until the pool lifts it"
                )
                self.tell(text)

    def tell(self, text: str) -> None:
        """Show ``text`` to the rig's operator."""
        self.connection.queue(wire.ShowMessage(0, text))

    def announce(self, model: RegisteredModel) -> None:
        """Tell the rig of a model, so that its weights are staged before its first share.

        Who judges is told of the models that it judges.
        """
        if model.digest in self._models or (self.judges and not self._gateway.court.judges(model)):
            return
        self._models[model.digest] = model
        self.connection.queue(
            wire.Model(
                0,
                model.digest,
                model.text,
                tuple(
                    wire.FileLocation(file.name, self._gateway.file_url(file.sha256))
                    for file in model.engine_files
                ),
            )
        )

    def _submit(self, message: wire.Submit) -> None:
        model = self._lease_models.get(message.lease)
        if model is None:
            model = self._core.board.lease_model(message.lease)
        if model is None:
            self.connection.refuse(
                message, Code.STALE, "unknown_lease", "no such lease, or it is long over"
            )
            return
        manifest = self._gateway.models.by_digest(model).manifest
        try:
            payload, digests, rows = read_outcome(message.outcome, manifest.dtype, manifest.width)
        except ArrayError as error:
            self._gateway.statistics.malformed[error.reason] += 1
            self.log.info(
                "malformed part", lease=message.lease, reason=error.reason, detail=str(error)
            )
            self._core.handle(
                PartMalformed(
                    at=self._core.clock.now(),
                    session=self.number,
                    request=message.id,
                    lease=message.lease,
                    reason=error.reason,
                )
            )
            return
        if message.final:
            self._lease_models.pop(message.lease, None)
        self._gateway.hardware.submitted(self._meter, message.lease, message.joules)
        self._core.submit(
            self.number,
            request=message.id,
            lease=message.lease,
            part=message.part,
            first_row=message.first_row,
            rows=rows,
            final=message.final,
            digests=digests,
            payload=payload,
        )

    def _answer_court(self, message: wire.Submit) -> None:
        """A part of what the referee asked of this rig."""
        court = self._gateway.court
        digest = court.model_of(self.number, message.lease)
        if digest is None:
            self.connection.refuse(message, Code.STALE, "unknown_lease", "nobody waits for it")
            return
        manifest = self._gateway.models.by_digest(digest).manifest
        try:
            record, digests, rows = read_outcome(message.outcome, manifest.dtype, manifest.width)
        except ArrayError as error:
            self._gateway.statistics.malformed[error.reason] += 1
            court.failed(self.number, message.lease, error.reason)
            self.connection.refuse(message, Code.MALFORMED, error.reason, str(error))
            return
        taken = court.answered(
            self.number,
            message.lease,
            message.part,
            message.first_row,
            final=message.final,
            computed=Computed(
                digests, () if manifest.exact else rows_of(record, rows, manifest.row_bytes)
            ),
        )
        if taken:
            self.connection.accept(message)
        else:
            self.connection.refuse(message, Code.OTHER, "out_of_order", "parts come in order")

    # ── from the court ───────────────────────────────────────────────────────

    def hand(
        self,
        lease: int,
        model: str,
        operation: str,
        timeout: float,
        rows: tuple[NDArray[np.uint32], NDArray[np.uint32]],
    ) -> None:
        """See ``Bench.hand``."""
        self.connection.queue(wire.Notify(0, lease, model, operation, timeout, pack_rows(*rows)))

    def take_back(self, lease: int) -> None:
        """See ``Bench.take_back``."""
        self.connection.queue(wire.Cancel(0, lease, "superseded"))

    # ── from the board ───────────────────────────────────────────────────────

    def deliver(self, message: Message) -> None:
        """Encode one message of the board's and send it soon."""
        match message:
            case Notify():
                self._notify(message)
            case Cancel():
                self._lease_models.pop(message.lease, None)
                self.connection.queue(wire.Cancel(0, message.lease, message.reason))
            case SetDifficulty():
                self.connection.queue(wire.SetDifficulty(0, message.work))
            case Accepted():
                self.connection.queue(wire.Result(message.request, True))
            case Refused():
                self.log.debug("request refused", request=message.request, reason=message.reason)
                self.connection.queue(wire.Error(message.request, message.code, message.reason, ""))
            case Disconnect():
                self.dismiss(message.reason)

    def dismiss(self, reason: str) -> None:
        """Say why, and end the connection once that is sent."""
        self.connection.dismiss(reason)

    def _notify(self, message: Notify) -> None:
        lengths, tokens = [], []
        for block, start, stop in self._core.rows_of(message.segments):
            some_lengths, some_tokens = block.take(start, stop)
            lengths.append(some_lengths)
            tokens.append(some_tokens)
        self._lease_models[message.lease] = message.model
        self.connection.queue(
            wire.Notify(
                0,
                message.lease,
                message.model,
                message.operation,
                message.timeout,
                pack_rows(np.concatenate(lengths), np.concatenate(tokens)),
            )
        )


def read_outcome(outcome: wire.Outcome, dtype: str, width: int) -> tuple[bytes, bytes, int]:
    """Check a part's structure and digest it.

    Returns the payload as it is stored (the rows' bytes, then the failed positions as uint32),
    the digests (16 bytes a row), and the number of rows. Raises ``ArrayError`` with a reason.
    """
    values, failed = unpack_outcome(outcome, dtype, width)
    rows = len(values)
    data = outcome.values.data
    digests = row_digests(data, data.nbytes // rows, frozenset(failed))
    return part_record(data, failed), digests, rows


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def network_group(address: str) -> str:
    """The network block that limits and audits go by: /24, /48; "" for loopback or unknown.

    An IPv4 address that an IPv6 socket tells (``::ffff:192.0.2.1``) is what it stands for.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return ""
    bits = 24 if ip.version == 4 else 48
    return str(ipaddress.ip_network((ip, bits), strict=False))

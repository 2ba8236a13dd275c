"""The pool: every part of it, put together in one nursery."""

from __future__ import annotations

import gc
import os
import signal
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from pool.appeals import Appeals
from pool.batches.runner import BatchRunner
from pool.clock import Clock
from pool.closedholds import ClosedHolds
from pool.comparisons import Comparisons
from pool.computed import Computed
from pool.config import Config
from pool.core import Core, verdicts_in
from pool.court import Court
from pool.epochs import Epochs
from pool.gateway import Gateway
from pool.history import History
from pool.http import HttpDeps, create_app
from pool.http.server import HttpServer
from pool.jobwatch import JobWatch
from pool.ledgerwatch import LedgerWatch
from pool.loglevels import LogLevels
from pool.metrics import PoolMetrics
from pool.models import Models
from pool.notices.mail import MailError, read_secret
from pool.notices.sending import Notices
from pool.notices.sources import Sources
from pool.overview import overview, samples
from pool.payouts.office import Office, PayoutError, PayoutRunner
from pool.quarantines import Quarantines
from pool.referee import Compute, Referee
from pool.rigwatch import RigWatch
from pool.settler import Settler
from pool.shareevents import ShareEvents
from pool.store import Store, StoreError
from pool.store.accounts import find_account
from pool.store.payees import Payee, changed_payees
from pool.webhooks import Webhooks
from shares.board import Board
from shares.board.effects import Record, RefereeWanted
from stratum.logs import Sinks
from stratum.server import open_listeners, parse_address

_log = structlog.get_logger("pool")

DRAIN_SECONDS = 20.0
RECONNECT_SECONDS = 5.0


class StartError(Exception):
    """The pool cannot start; the text says why and what to do."""


@dataclass(slots=True)
class Pool:
    """A pool's parts. ``build_pool`` makes it; the parts run in the caller's nursery."""

    config: Config
    store: Store
    clock: Clock
    models: Models
    referee: Referee
    core: Core
    gateway: Gateway
    epochs: Epochs
    settler: Settler
    ledger_watch: LedgerWatch
    quarantines: Quarantines
    comparisons: Comparisons
    appeals: Appeals
    closed_holds: ClosedHolds
    metrics: PoolMetrics
    history: History
    job_watch: JobWatch
    rig_watch: RigWatch
    notice_sources: Sources

    async def overview(self) -> dict[str, Any]:
        """What the status page shows."""
        facts = await overview(self.core, self.gateway, self.models, self.referee)
        return facts | {"batches": self.job_watch.batches}

    async def run_core(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit, judge, settle, and open epochs, until cancelled.

        Started when rigs may come: the board is going and the first epoch is open.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self.core.run)
            await self.quarantines.look()
            nursery.start_soon(self.quarantines.run)
            await nursery.start(self._keep_epochs)
            nursery.start_soon(self.referee.run)
            nursery.start_soon(self.comparisons.run)
            nursery.start_soon(self.settler.run)
            nursery.start_soon(self.ledger_watch.run)
            nursery.start_soon(self.appeals.run)
            nursery.start_soon(self.closed_holds.run)
            task_status.started()

    async def _keep_epochs(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        ends = await self._open_epoch()
        task_status.started()
        while True:
            await trio.sleep(max(0.0, ends - self.clock.now()))
            ends = await self._open_epoch()

    async def _open_epoch(self) -> float:
        event, ends = await self.core.in_thread(self.epochs.current, self.clock.now())
        self.core.handle(event)
        return ends


def build_pool(
    config: Config,
    store: Store,
    *,
    inline: bool = False,
    start: float | None = None,
    compute: Compute | None = None,
    epochs: Epochs | None = None,
    registry: CollectorRegistry | None = None,
) -> Pool:
    """Recover what the store holds and wire the parts. Must run inside ``trio.run``.

    ``inline``, ``start``, ``compute`` and ``epochs`` are a simulation's: writes in the loop's own
    thread, a first moment, a referee that computes in the loop, keys that are no secret.
    """
    clock = Clock(start)
    policy = config.policy()
    snapshot = store.recover()
    board = Board(policy, snapshot, clock.now())
    models = Models(store, builtin=config.builtin_models)
    court = Court(config.referee.rigs, config.referee.models)
    for name in config.referee.models:
        if models.get(name) is None:
            _log.warning(
                "referee.models names no model on offer", model=name, remedy="inferpool model list"
            )
    referee = Referee(
        models,
        store.block_path,
        court=court,
        compute=compute,
        rows_per_run=config.referee.rows_per_run,
        threads=config.referee.threads,
    )
    core = Core(
        board=board,
        store=store,
        clock=clock,
        referee=referee,
        high_water=config.commit_high_water_bytes,
        inline=inline,
    )
    comparisons = Comparisons(core, models)
    core.compare, core.on_block_dropped = comparisons.want, comparisons.forget

    def answered(order: RefereeWanted, rows: tuple[int, ...], computed: Computed) -> None:
        comparisons.keep(order, rows, computed)
        core.referee_answered(order, rows, computed.digests)

    referee.answer = answered
    referee.wanted = lambda order, rows: board.awaits(order.job, order.block, rows)
    gateway = Gateway(core, models, court, config.stratum, config.http)
    settler = Settler(core, config)
    quarantines = Quarantines(core, gateway)
    watch = LedgerWatch(core)
    history = History(core)
    job_watch = JobWatch(core)
    rig_watch = RigWatch(core, court, config.metrics.top_rigs)
    notice_sources = Sources(core, watch, config.notifications.offline_after_seconds)
    metrics = PoolMetrics(
        registry or CollectorRegistry(),
        lambda: samples(core, gateway, referee, watch, job_watch, rig_watch),
    )

    share_events = ShareEvents(snapshot.leases, config.shares.target_seconds)

    def committed(records: list[Record]) -> None:
        metrics.committed(records)
        share_events.committed(records)
        if verdicts_in(records):
            settler.wake()
        quarantines.committed(records)
        gateway.hardware.committed(records)
        history.committed(records)
        notice_sources.committed(records)

    core.on_records, core.on_noted = committed, metrics.noted
    core.committer.observe = metrics.group_written
    return Pool(
        config=config,
        store=store,
        clock=clock,
        models=models,
        referee=referee,
        core=core,
        gateway=gateway,
        epochs=epochs or Epochs(store, config.trust.epoch_seconds, policy),
        settler=settler,
        ledger_watch=watch,
        quarantines=quarantines,
        comparisons=comparisons,
        appeals=Appeals(core, referee, comparisons),
        closed_holds=ClosedHolds(
            core, referee, comparisons, config.trust.hold_seconds, config.money.price
        ),
        metrics=metrics,
        history=history,
        job_watch=job_watch,
        rig_watch=rig_watch,
        notice_sources=notice_sources,
    )


async def run_pool(config: Config, folder: Path, base: Path, sinks: Sinks) -> None:
    """Serve until SIGTERM or SIGINT. ``base``: what relative paths in the settings start from.

    ``sinks``: of the log, whose levels change as the operator says.
    """
    try:
        tls = _tls(config, base)
        stratum_address = parse_address(config.stratum.listen)
        http_address = parse_address(config.http.listen)
        store = await trio.to_thread.run_sync(Store.open, folder)
    except (OSError, ValueError, StoreError) as error:
        raise StartError(str(error)) from error
    try:
        office = Office(store, config.payouts, base)
        alerts = config.notifications.alerts_secret_file
        secret = read_secret(base / alerts, "alerts_secret_file") if alerts else ""
        registry = CollectorRegistry()
        for collect in (ProcessCollector, PlatformCollector, GCCollector):
            collect(registry=registry)
        pool = build_pool(config, store, registry=registry)
        levels = LogLevels(store, pool.clock, sinks, config.log_level)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(levels.run)
            notices = Notices(store, pool.clock, config, base, pool.notice_sources)
            beside = _Beside(tls, office, levels, notices, secret)
            await _serve(pool, nursery, stratum_address, http_address, beside)
    except (StoreError, OSError, PayoutError, MailError) as error:
        raise StartError(str(error)) from error
    finally:
        store.close()


@dataclass(slots=True)
class _Beside:
    """What a served pool has that a simulated one has not: it needs files and the world."""

    tls: ssl.SSLContext | None
    office: Office
    levels: LogLevels
    notices: Notices
    alerts_secret: str


async def _serve(
    pool: Pool,
    nursery: trio.Nursery,
    stratum_address: tuple[str, int],
    http_address: tuple[str, int],
    beside: _Beside,
) -> None:
    office = beside.office
    stopping = trio.Event()
    nursery.start_soon(_watch_signals, stopping)
    listeners = await open_listeners(*stratum_address, ssl_context=beside.tls)
    server = HttpServer(*http_address)
    pool.gateway.http_port = server.port
    runner = BatchRunner(pool.store, pool.core, pool.models, pool.config, pool.clock)
    pool.core.on_job_closed(runner.job_closed)
    runner.on_over = pool.metrics.batch_over
    webhooks = Webhooks(pool.store, pool.clock, anywhere=pool.config.http.webhooks_anywhere)
    written = _Written()
    app = create_app(
        HttpDeps(
            store=pool.store,
            core=pool.core,
            models=pool.models,
            runner=runner,
            config=pool.config,
            clock=pool.clock,
            registry=pool.metrics.registry,
            overview=pool.overview,
            tell=pool.gateway.tell,
            changed=written.here,
            alerts_secret=beside.alerts_secret,
            ending=server.stopping,
            stratum_port=_port(listeners[0]),
        )
    )
    async with trio.open_nursery() as parts:
        await parts.start(pool.run_core)
        parts.start_soon(runner.run)
        parts.start_soon(webhooks.run)
        parts.start_soon(pool.gateway.hardware.run)
        if office.carrier is not None:
            parts.start_soon(PayoutRunner(office, pool.clock).run)
        parts.start_soon(_watch_writers, pool, written, beside.levels)
        parts.start_soon(pool.history.run)
        parts.start_soon(pool.job_watch.run)
        parts.start_soon(pool.rig_watch.run)
        parts.start_soon(beside.notices.run)
        parts.start_soon(_watch_loop, pool)
        parts.start_soon(server.serve, app)
        async with trio.open_nursery() as rigs:
            rigs.start_soon(_listen, pool, listeners, rigs)
            _log.info(
                "listening",
                stratum=f"{stratum_address[0]}:{_port(listeners[0])}",
                http=f"{http_address[0]}:{server.port}",
                tls=beside.tls is not None,
            )
            # What is alive now lives as long as the pool: collections need not look at it again.
            gc.collect()
            gc.freeze()
            await stopping.wait()
            _log.info("stopping", again="a second signal stops at once")
            pool.gateway.say_goodbye(RECONNECT_SECONDS)
            with trio.move_on_after(DRAIN_SECONDS):
                await pool.core.committer.flushed()
                await trio.sleep(0.2)  # the goodbyes leave
            rigs.cancel_scope.cancel()
        server.stop()
        with trio.move_on_after(DRAIN_SECONDS):
            await pool.core.committer.flushed()
        parts.cancel_scope.cancel()
    nursery.cancel_scope.cancel()
    _log.info("stopped")


async def _listen(
    pool: Pool, listeners: Sequence[trio.abc.Listener[Any]], rigs: trio.Nursery
) -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await pool.gateway.serve_stream(stream, _address(stream))

    await trio.serve_listeners(handle, list(listeners), handler_nursery=rigs)


async def _watch_signals(stopping: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if stopping.is_set():
                os._exit(130)
            stopping.set()


@dataclass(slots=True)
class _Written:
    """Whether the pages changed accounts or quarantines since somebody looked."""

    news: bool = False

    def here(self) -> None:
        """They did."""
        self.news = True


async def _watch_writers(pool: Pool, written: _Written, levels: LogLevels) -> None:
    """Commands are a second writer: what they, and the pages, changed reaches the running pool."""
    seen = await pool.core.in_thread(pool.store.database.data_version)
    looked = pool.clock.now()
    while True:
        await trio.sleep(1.0)
        version = await pool.core.in_thread(pool.store.database.data_version)
        if version != seen or written.news:
            seen, written.news = version, False
            levels.look()
            pool.gateway.announce(await pool.core.in_thread(pool.models.refresh))
            pool.settler.wake()
            await pool.quarantines.look()
            for account in await pool.core.in_thread(_closed_of, pool, pool.gateway.accounts()):
                pool.gateway.drop_account(account)
            now = pool.clock.now()
            for account, payee in (await pool.core.in_thread(_payees, pool, looked)).items():
                pool.gateway.tell(account, payee.news())
            looked = now


def _payees(pool: Pool, since: float) -> dict[str, Payee]:
    with pool.store.database.read() as connection:
        return changed_payees(connection, since)


def _closed_of(pool: Pool, names: set[str]) -> list[str]:
    with pool.store.database.read() as connection:
        found = [find_account(connection, name) for name in sorted(names)]
    return [account.name for account in found if account is not None and account.closed]


async def _watch_loop(pool: Pool) -> None:
    while True:
        expected = trio.current_time() + 0.5
        await trio.sleep_until(expected)
        pool.metrics.loop_lag.set(trio.current_time() - expected)


def _address(stream: trio.abc.Stream) -> str:
    inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(inner, trio.SocketStream):
        return ""
    try:
        name = inner.socket.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def _port(listener: trio.abc.Listener[Any]) -> int:
    inner = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
    assert isinstance(inner, trio.SocketListener)
    return int(inner.socket.getsockname()[1])


def _tls(config: Config, base: Path) -> ssl.SSLContext | None:
    if not config.stratum.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(base / config.stratum.tls_certificate, base / config.stratum.tls_key)
    return context

"""``inferpool worker``: run a rig."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import structlog
import trio
from prometheus_client import CollectorRegistry
from rich.console import Console

from gpu_worker.commands.options import (
    backend_option,
    choose,
    devices_option,
    parse_pools,
    threads_option,
)
from gpu_worker.config import PoolAddress, RigConfig, check_user, default_cache
from gpu_worker.console import configure_logs
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.engine import EngineError, check_canaries, check_golden
from gpu_worker.metrics import TelemetryCollector, serve_metrics
from gpu_worker.rig import NoDevices, Rig
from gpu_worker.service import run_until_signalled
from stratum.logs import adopt_process

log = structlog.get_logger()


def _user(ctx: click.Context, option: click.Parameter, user: str) -> str:
    try:
        return check_user(user)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    epilog="Example:  inferpool worker --pool stratum+tcp://pool.example:3333 "
    "--user alice.rig1 --token-file ~/alice.token"
)
@click.option(
    "--pool",
    "pools",
    metavar="URL",
    multiple=True,
    required=True,
    callback=parse_pools,
    help="stratum+tcp://HOST:PORT, or stratum+ssl:// for TLS. Several: the first is preferred, "
    "the others stand in for it.",
)
@click.option(
    "--user",
    metavar="ACCOUNT.RIG",
    required=True,
    callback=_user,
    help="Who is paid, and which rig.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    required=True,
    help="A file that holds the account's token.",
)
@backend_option
@devices_option
@threads_option
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Where models are kept; rigs on one machine may share it.  "
    "[default: $XDG_CACHE_HOME/inferpool or ~/.cache/inferpool]",
)
@click.option(
    "--cache-limit",
    metavar="GIB",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="What the cache may hold; models not used for longest leave it.",
)
@click.option(
    "--credit",
    type=click.IntRange(1, 64),
    default=3,
    show_default=True,
    help="Shares held at once for each device: one uploads, one computes, one arrives.",
)
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificates to trust instead of the system's (PEM).",
)
@click.option(
    "--receipts",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the pool's receipts for what is delivered here, for `inferpool verify`.",
)
@click.option(
    "--drain",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="How long the share in work may take to finish after SIGTERM.",
)
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), help="Answer Prometheus on this port."
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    help="The address of that port; anything else shows your rig's numbers to whoever reaches it.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What is logged, to stderr: readable on a terminal, JSON otherwise. SIGUSR2 changes a "
    "running worker to debug and back.",
)
def worker(
    pools: tuple[PoolAddress, ...],
    user: str,
    token_file: Path,
    backend: str,
    devices: str | None,
    threads: int | None,
    cache: Path | None,
    cache_limit: int,
    credit: int,
    ca: Path | None,
    receipts: Path | None,
    drain: float,
    metrics_port: int | None,
    metrics_host: str,
    log_level: str,
) -> None:
    """Compute shares for a pool, and earn.

    Fetches the models that the pool offers, reconnects for ever, and on SIGTERM finishes or
    hands back its shares. A second SIGTERM stops it at once.
    """
    console = Console(stderr=True) if sys.stderr.isatty() else None
    sinks = configure_logs(log_level, console)
    adopt_process()
    config = RigConfig(
        pools=pools,
        user=user,
        token=_read_token(token_file),
        cache=cache or default_cache(),
        cache_limit=cache_limit << 30,
        devices=choose(backend, devices, threads),
        credit=credit,
        ca=ca,
        receipts=receipts,
        drain=drain,
    )
    _check_engine(config.devices)
    rig = Rig(config)
    if metrics_port is not None:
        _serve_metrics(rig, metrics_host, metrics_port)
    try:
        trio.run(partial(run_until_signalled, rig, console=console, sinks=sinks, level=log_level))
    except* NoDevices as group:
        reason = group.exceptions[0]
        raise click.ClickException(
            f"no device of this machine can compute for a pool: {reason}"
        ) from None


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
        others_may_read = path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.ClickException(f"--token-file {path} cannot be read: {reason}") from None
    if not token or len(token.split()) != 1:
        raise click.ClickException(
            f"--token-file {path} must hold one word: the token that "
            "`inferpool account create` printed"
        )
    if others_may_read:
        log.warning("others may read the token", file=str(path), remedy=f"chmod 600 {path}")
    return token


def _check_engine(devices: Sequence[DeviceSpec]) -> None:
    """Refuse to start on a processor that computes other bits. GPUs are checked where they run."""
    if all(spec.backend == "cupy" for spec in devices):
        return
    try:
        check_canaries()
        check_golden("numpy")
    except EngineError as error:
        raise click.ClickException(f"this machine cannot compute for a pool: {error}") from None


def _serve_metrics(rig: Rig, host: str, port: int) -> None:
    registry = CollectorRegistry()
    registry.register(TelemetryCollector(rig.telemetry))
    try:
        bound = serve_metrics(registry, port, host)
    except OSError as error:
        raise click.ClickException(
            f"--metrics-host {host} --metrics-port {port}: {error}"
        ) from None
    log.info("metrics", url=f"http://{host}:{bound}/metrics")

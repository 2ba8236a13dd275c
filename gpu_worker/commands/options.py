"""Options that the rig's commands have in common, and what they mean."""

from __future__ import annotations

import logging
import sys

import click
import structlog

from gpu_worker.config import parse_pool
from gpu_worker.devices.choice import DeviceSpec, choose_devices
from gpu_worker.devices.probe import probe_gpus

log = structlog.get_logger()

backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "numpy", "cupy"]),
    default="auto",
    show_default=True,
    help="What computes: auto takes every GPU, or the processor where there is none.",
)
devices_option = click.option(
    "--devices",
    metavar="all|0,2|cpu:N",
    help="GPUs by number, each in a process of its own; cpu:N divides the processor among N "
    "processes.  [default: all]",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads that compute, for each device.  [default: one a processor]",
)


def parse_pools(ctx: click.Context, option: click.Parameter, urls: tuple[str, ...]) -> object:
    """The callback of an option that names pools."""
    try:
        return tuple(parse_pool(url) for url in dict.fromkeys(urls))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def choose(backend: str, devices: str | None, threads: int | None) -> tuple[DeviceSpec, ...]:
    """The devices that the options name. Why a GPU cannot be used is said or logged."""

    def gpus() -> tuple[int, ...]:
        found = probe_gpus()
        if not found.error:
            return tuple(gpu.ordinal for gpu in found.gpus)
        if backend == "auto" and devices is None:
            log.info("computing on the processor", reason=found.error)
        raise ValueError(found.error)

    try:
        return choose_devices(backend, devices, threads, gpus)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def quiet_logs() -> None:
    """Log what goes wrong, and nothing else, to stderr."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )

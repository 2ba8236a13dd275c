"""``inferpool doctor``: whether this machine can be a rig, and what to do if not."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path

import click
import trio

from gpu_worker.commands.options import (
    backend_option,
    devices_option,
    parse_pools,
    quiet_logs,
    threads_option,
)
from gpu_worker.config import PoolAddress, default_cache
from gpu_worker.devices.choice import DeviceSpec, choose_devices
from gpu_worker.devices.probe import GpuProbe, probe_gpus
from gpu_worker.doctor.connection import check_pool
from gpu_worker.doctor.devices import check_device
from gpu_worker.doctor.findings import Finding, failure
from gpu_worker.doctor.gpus import check_gpus
from gpu_worker.doctor.machine import check_machine
from gpu_worker.nvml import open_nvml

_MARKS = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "failure": ("FAIL", "red")}


@click.command(epilog="Example:  inferpool doctor --pool stratum+tcp://pool.example:3333")
@click.option(
    "--pool",
    "pools",
    metavar="URL",
    multiple=True,
    callback=parse_pools,
    help="Look at the way to this pool too. Needs no account; may be given more than once.",
)
@backend_option
@devices_option
@threads_option
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Where models are to be kept.  [default: as of inferpool worker]",
)
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificates to trust instead of the system's (PEM).",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="How long to measure each device; 0 to leave it out.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def doctor(
    pools: tuple[PoolAddress, ...],
    backend: str,
    devices: str | None,
    threads: int | None,
    cache: Path | None,
    ca: Path | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Look at everything that a rig needs, and name the remedy for what is wrong.

    Checks Python and its libraries, GPUs and drivers, that arithmetic gives the same bits as
    everywhere, the cache folder, each device's speed, and the way to a pool. Ends with status 1
    if this machine could not join.
    """
    quiet_logs()
    findings: list[Finding] = []

    async def look() -> None:
        async for finding in _examine(pools, backend, devices, threads, cache, ca, seconds):
            findings.append(finding)
            if not as_json:
                _show(finding)

    trio.run(look)
    failed = [finding for finding in findings if finding.status == "failure"]
    if as_json:
        facts = {"ready": not failed, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"This machine cannot join a pool: {len(failed)} of {len(findings)} checks failed."
            if failed
            else "This machine can join a pool."
        )
    if failed:
        sys.exit(1)


async def _examine(
    pools: tuple[PoolAddress, ...],
    backend: str,
    devices: str | None,
    threads: int | None,
    cache: Path | None,
    ca: Path | None,
    seconds: float,
) -> AsyncIterator[Finding]:
    """Every finding, as soon as there is one."""
    probe = GpuProbe()
    told = False
    if backend != "numpy":
        probe = await trio.to_thread.run_sync(probe_gpus)
        wanted = backend == "cupy" or (devices is not None and not devices.startswith("cpu"))
        for finding in await trio.to_thread.run_sync(_gpus, probe, wanted):
            told = told or finding.status == "failure"
            yield finding
    specs: tuple[DeviceSpec, ...] = ()
    try:
        specs = choose_devices(backend, devices, threads, lambda: _ordinals(probe))
    except ValueError as error:
        if not told:
            yield failure("devices", str(error), "see --devices and --backend in the help")
    processor = any(spec.backend == "numpy" for spec in specs)
    machine = check_machine(cache or default_cache(), processor=processor)
    while (found := await trio.to_thread.run_sync(next, machine, None)) is not None:
        yield found
    for spec in specs:
        for finding in await check_device(spec, seconds=seconds):
            yield finding
    for address in pools:
        for finding in await check_pool(address, ca):
            yield finding


def _gpus(probe: GpuProbe, wanted: bool) -> list[Finding]:
    nvml = open_nvml()
    if nvml is None:
        return list(check_gpus(probe, "", {}, required=wanted))
    try:
        return list(check_gpus(probe, nvml.driver, nvml.gpus(), required=wanted))
    finally:
        nvml.close()


def _ordinals(probe: GpuProbe) -> tuple[int, ...]:
    if probe.error:
        raise ValueError(probe.error)
    return tuple(gpu.ordinal for gpu in probe.gpus)


def _show(finding: Finding) -> None:
    mark, colour = _MARKS[finding.status]
    click.echo(f"{click.style(mark, fg=colour)}  {finding.check}: {finding.text}")
    for line in _remedy(finding):
        click.echo(line)


def _remedy(finding: Finding) -> Iterator[str]:
    if finding.remedy:
        yield f"      → {finding.remedy}"

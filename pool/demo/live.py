"""The demo while it runs: a live table on a terminal, a line now and then otherwise."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pool.demo.claims import MINERS
from pool.demo.watch import RigSeen, Scene
from pool.progress import speed

LINE_SECONDS = 2.0


@contextlib.contextmanager
def shown(console: Console, scene: Scene) -> Iterator[Callable[[], None]]:
    """Show ``scene``; yields what is called after each change of it."""
    if console.is_terminal:
        with Live(picture(scene), console=console, auto_refresh=False) as live:
            yield lambda: live.update(picture(scene), refresh=True)
        return
    last = -LINE_SECONDS

    def tell() -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            console.print(line(scene), markup=False, highlight=False, soft_wrap=True)

    yield tell


def picture(scene: Scene) -> RenderableType:
    """The table, with the batch's bar under it."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("rig", "state"):
        table.add_column(heading)
    for heading in ("work/s", "difficulty", "rows", "accepted", "checked", "rejected"):
        table.add_column(heading, justify="right")
    for name in sorted(scene.rigs, key=_order):
        rig = scene.rigs[name]
        table.add_row(
            name,
            state(scene, rig),
            f"{rig.rate or 0.0:,.0f}",
            f"{rig.difficulty:,}",
            f"{rig.accepted_rows:,}",
            f"{rig.shares_cleared + rig.unjudged:,}",
            f"{rig.shares_cleared:,}",
            f"{scene.rejected(name):,}",
            style="red" if scene.banned(name) else "",
        )
    return Group(table, Text(progress(scene)), _bar(scene))


def line(scene: Scene) -> str:
    """The same in one line."""
    rigs = "; ".join(
        f"{name} {state(scene, rig)} {rig.rate or 0.0:,.0f} work/s,"
        f" shares {rig.shares_cleared + rig.unjudged} accepted"
        f" {rig.shares_cleared} checked {scene.rejected(name)} rejected"
        for name, rig in sorted(scene.rigs.items(), key=lambda item: _order(item[0]))
    )
    return f"{progress(scene)} | {rigs}"


def state(scene: Scene, rig: RigSeen) -> str:
    """What a rig is doing, in a word."""
    if scene.banned(rig.name):
        return "banned"
    if rig.name not in scene.connected:
        return "gone"
    return "working" if rig.leases else "ready"


def progress(scene: Scene) -> str:
    """How far the batch is."""
    batch = scene.batch
    if batch is None:
        return f"{len(scene.connected)} rigs connected"
    counts = batch.counts
    words = f"batch {batch.status}: {counts.completed + counts.failed:,} of {counts.total:,} rows"
    fast = speed(batch)
    return f"{words}, {fast}" if fast else words


def _bar(scene: Scene) -> RenderableType:
    counts = scene.batch.counts if scene.batch else None
    if counts is None or not counts.total:
        return Text("")
    return ProgressBar(total=counts.total, completed=counts.completed + counts.failed, width=60)


def _order(name: str) -> tuple[int, str]:
    account = name.partition(".")[0]
    return (MINERS.index(account) if account in MINERS else len(MINERS), name)

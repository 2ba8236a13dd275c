"""``inferpool demo``."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pool.commands.common import echo_json, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from pool.demo.claims import Claim, Outcome

FEWEST_ROWS = 50  # enough for each of three rigs to get a share in which two rows are false


@click.command(epilog="Example:  inferpool demo --rows 300 --keep")
@click.option(
    "--rows",
    type=click.IntRange(FEWEST_ROWS),
    default=1000,
    show_default=True,
    help="Paragraphs to embed.",
)
@click.option("--keep", is_flag=True, help="Keep the folder with the output, the logs, the pool.")
@json_option
def demo(rows: int, keep: bool, as_json: bool) -> None:
    """Watch a pool, three rigs and a real model embed real text, and catch the rig that cheats.

    The text is the documentation of this Python's standard library. Everything is real: the
    processes, the connections, the model, the money table. What is promised at the end is
    verified; the exit code is 0 only when all of it holds.
    """
    import trio
    from rich.console import Console

    from pool.demo.house import MissingModelError, require_model

    try:
        require_model()
    except MissingModelError as error:
        raise click.ClickException(str(error)) from None
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = 110
    folder = Path(tempfile.mkdtemp(prefix="inferpool-demo-"))
    try:
        holds = trio.run(_run, folder, rows, keep, as_json, console)
    except BaseException as error:
        # What went wrong may be in the logs; who pressed Ctrl-C has no use for them.
        _leave(folder, console, keep=keep or not isinstance(error, SystemExit))
        raise
    _leave(folder, console, keep=keep or not holds)
    if not holds:
        sys.exit(1)


def _leave(folder: Path, console: Console, *, keep: bool) -> None:
    if keep:
        console.print(f"The output, the logs and the pool are kept in {folder}", soft_wrap=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(folder: Path, rows: int, keep: bool, as_json: bool, console: Console) -> bool:
    import trio

    from pool.customer import CustomerError
    from pool.demo.claims import judge
    from pool.demo.corpus import CorpusError
    from pool.demo.flow import Demo
    from pool.demo.house import House
    from pool.demo.processes import Crew, ProcessError
    from pool.demo.report import tell

    house = House(folder, Crew(folder))
    run = Demo(house, rows, console, {})
    stopped: list[int] = []

    async def watch(scope: trio.CancelScope) -> None:
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        with trio.open_signal_receiver(*wanted) as signals:
            async for number in signals:
                if stopped:
                    house.crew.kill()
                stopped.append(number)
                scope.cancel()

    outcome: Outcome | None = None
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(watch, scope)
            try:
                outcome = await run.run()
            except* (CustomerError, CorpusError, ProcessError) as group:
                failure = _first(group)
            finally:
                await house.crew.stop()
        nursery.cancel_scope.cancel()
    if stopped:
        click.echo("interrupted; every process of the demo has ended", err=True)
        sys.exit(128 + stopped[0])
    if failure is not None:
        raise click.ClickException(str(failure))
    assert outcome is not None
    claims = judge(outcome)
    tell(console, outcome, claims, run.output if keep else None)
    if as_json:
        echo_json(_facts(outcome, claims))
    broken = [claim.says for claim in claims if not claim.holds]
    for says in broken:
        click.echo(f"The demo failed: not so: {says}", err=True)
    return not broken


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error


def _facts(outcome: Outcome, claims: list[Claim]) -> dict[str, Any]:
    money = outcome.books.money
    return {
        "rows": len(outcome.places),
        "holds": all(claim.holds for claim in claims),
        "claims": [
            {"says": claim.says, "holds": claim.holds, "because": claim.because} for claim in claims
        ],
        "price": money.price,
        "pending": money.pending,
        "held": money.held,
        "available": money.available,
        "checks": money.checks,
        "operator": money.operator,
        "reserve": money.reserve,
        "refund": money.refund,
        "seconds": dict(outcome.seconds),
    }

"""``inferpool lab``: one share log under every reward scheme."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import click

from pool.commands.common import echo_json, echo_table, json_option, open_store
from pool.commands.labplot import SUFFIXES, plot
from pool.store.sharelogs import pool_share_log
from shares.money.examplelog import example_log, unknown_length_log
from shares.money.lab import (
    Report,
    Result,
    Settings,
    classic_experiment,
    experiment,
    position_worth,
    schemes_for,
)
from shares.money.ruin import reserve_for, ruin_bound
from shares.money.schemes import Pplns
from shares.money.sharelines import ShareLinesError, read_lines, write_lines
from shares.money.sharelog import ShareLog

_BOUND = 1e-6  # of ruin, for which the needed reserve is told

_DEFAULT = Settings()


def _check_plot(
    _context: click.Context, _option: click.Parameter, value: Path | None
) -> Path | None:
    if value is not None and value.suffix not in SUFFIXES:
        raise click.BadParameter(f"{value}: end its name with {' or '.join(SUFFIXES)}")
    return value


@click.command(epilog="Example:  inferpool lab --example 1 --plot schemes.svg")
@click.option(
    "--log",
    "log_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A share log, as --write-log writes it (docs/REWARDS.md has the format).",
)
@click.option("--example", metavar="SEED", type=int, help="A log of a pool that never was.")
@click.option(
    "--classic",
    is_flag=True,
    help="With --example: rounds of unknown length and one bounty each, as mining pools once had"
    " them; the hopper gains there.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The log of a pool: its settings, or the folder that holds them.",
)
@click.option(
    "--write-log",
    "target",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the log there and do nothing else.",
)
@click.option("--pseudonyms", is_flag=True, help="With --config: m1, m2, … for accounts.")
@click.option(
    "--account",
    metavar="NAME",
    help="Who tries not to work honestly.  [default: the account in the middle by work]",
)
@click.option(
    "--round",
    "round_seconds",
    type=click.IntRange(min=1),
    default=_DEFAULT.round_seconds,
    show_default=True,
    help="Seconds of a pplns round.",
)
@click.option(
    "--window",
    type=click.IntRange(min=1),
    help="Units of work of pplns.  [default: 20 rounds' mean]",
)
@click.option(
    "--income-ppm",
    type=click.IntRange(0, 1_000_000),
    default=_DEFAULT.income_ppm,
    show_default=True,
    help="Of pay, what levies bring the reserve under pps.",
)
@click.option("--reserve", type=click.IntRange(min=0), help="Units, to bound its ruin under pps.")
@click.option(
    "--spans",
    type=click.IntRange(min=1),
    default=_DEFAULT.spans,
    show_default=True,
    help="Equal spans of time, over which pay per unit of work varies.",
)
@click.option(
    "--part",
    type=float,
    default=_DEFAULT.part,
    show_default=True,
    help="Of a job or round, in which the hopper works.",
)
@click.option(
    "--pieces",
    type=click.IntRange(min=2),
    default=_DEFAULT.pieces,
    show_default=True,
    help="Accounts of the splitter.",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=_DEFAULT.every,
    show_default=True,
    help="The withholder keeps one share in so many.",
)
@click.option(
    "--late",
    type=click.FloatRange(min=0),
    default=_DEFAULT.late,
    show_default=True,
    help="Seconds by which it is late with them.",
)
@click.option("--close", is_flag=True, help="Give out carried fractions at the end of the log.")
@click.option(
    "--plot",
    "picture",
    metavar="FILE",
    callback=_check_plot,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw it, as .svg or .png (needs the extra lab).",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
def lab(
    log_file: Path | None,
    example: int | None,
    classic: bool,
    config_path: Path | None,
    target: Path | None,
    pseudonyms: bool,
    reserve: int | None,
    close: bool,
    picture: Path | None,
    as_csv: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Replay one share log under every reward scheme, and try to profit from each.

    Shows what every account would be paid, how much that varies for a unit of work, and what a
    hopper, a splitter or a withholder would gain beside honest work with the same machines. The
    log comes from one of --log, --example and --config.
    """
    if sum(source is not None for source in (log_file, example, config_path)) != 1:
        raise click.UsageError("say where the log is: one of --log, --example and --config")
    if classic and example is None:
        raise click.UsageError("--classic goes with --example")
    if pseudonyms and config_path is None:
        raise click.UsageError("--pseudonyms goes with --config")
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    log = _log(log_file, example, config_path, classic=classic, pseudonyms=pseudonyms)
    if target is not None:
        _write(log, target)
        return
    chosen = Settings(**settings)
    try:
        if classic:
            report = classic_experiment(log, chosen)
        else:
            report = experiment(log, chosen, schemes_for(log, chosen), close=close)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if picture is not None:
        plot(report, picture)
    if as_json:
        echo_json(_facts(log, report, reserve))
    elif as_csv:
        _print_csv(report)
    else:
        _print_tables(log, report, reserve)


def _log(
    log_file: Path | None,
    example: int | None,
    config_path: Path | None,
    *,
    classic: bool,
    pseudonyms: bool,
) -> ShareLog:
    if log_file is not None:
        try:
            with log_file.open(encoding="utf-8") as lines:
                return read_lines(lines)
        except (ShareLinesError, UnicodeDecodeError) as error:
            raise click.ClickException(f"{log_file}: {error}") from None
    if example is not None:
        return unknown_length_log(example) if classic else example_log(example)
    assert config_path is not None
    with open_store(config_path) as store, store.database.read() as connection:
        return pool_share_log(connection, pseudonyms=pseudonyms)


def _write(log: ShareLog, target: Path) -> None:
    try:
        with target.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in write_lines(log))
    except OSError as error:
        raise click.ClickException(f"cannot write {target}: {error.strerror}") from None
    click.echo(f"{target}: {len(log.shares)} shares of {len(log.jobs)} jobs")


# ── what is shown ─────────────────────────────────────────────────────────────


def _facts(log: ShareLog, report: Report, reserve: int | None) -> dict[str, Any]:
    return {
        "shares": len(log.shares),
        "jobs": len(log.jobs),
        "bounty": log.bounty,
        "tried_by": report.account,
        "schemes": [_scheme_facts(result) for result in report.results],
        "reserve": _reserve_facts(report, reserve),
    }


def _scheme_facts(result: Result) -> dict[str, Any]:
    return {
        "scheme": result.scheme.name,
        "window": getattr(result.scheme, "window", None),
        **_balance(result),
        "variance": result.variance,
        "accounts": [
            {
                "account": one.account,
                "work": one.work,
                "units": one.units,
                "per_unit": one.per_unit,
                "variance": one.variance,
            }
            for one in result.accounts
        ],
        "strategies": [
            {
                "strategy": one.strategy,
                "honest": one.gain.honest,
                "units": one.gain.units,
                "elsewhere": float(one.gain.elsewhere),
                "gained": float(one.gain.gained),
                "relative": one.gain.relative,
            }
            for one in result.trials
        ],
    }


def _balance(result: Result) -> dict[str, int]:
    outcome = result.outcome
    return {
        "brought": outcome.brought,
        "income": outcome.income,
        "paid": sum(one.units for one in outcome.payments),
        "returned": outcome.returned,
        "open": outcome.open,
        "fractions": outcome.fractions,
        "reserve": outcome.reserve,
        "missing": outcome.missing,
    }


def _reserve_facts(report: Report, reserve: int | None) -> dict[str, Any] | None:
    risk = report.risk
    if risk is None:
        return None
    terms = {"chance": risk.chance, "loss": risk.loss, "income": risk.income}
    try:
        needed = reserve_for(_BOUND, **terms)
    except ValueError:
        needed = None
    bound = None if reserve is None else ruin_bound(reserve, **terms)
    return {**terms, "units": reserve, "ruin": bound, "wanted": _BOUND, "needed": needed}


def _print_csv(report: Report) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(
        ["scheme", "kind", "name", "work", "units", "per_unit", "variance", "gained", "relative"]
    )
    for result in report.results:
        name = result.scheme.name
        for one in result.accounts:
            varied = "" if one.variance is None else one.variance
            writer.writerow(
                [name, "account", one.account, one.work, one.units, one.per_unit, varied, "", ""]
            )
        for trial in result.trials:
            found = trial.gain
            gained = [float(found.gained), found.relative]
            writer.writerow([name, "strategy", trial.strategy, "", found.units, "", "", *gained])


def _print_tables(log: ShareLog, report: Report, reserve: int | None) -> None:
    names = [result.scheme.name for result in report.results]
    if not log.shares:
        click.echo("The log has no shares with a verdict.")
        return
    by_account = list(zip(*(result.accounts for result in report.results), strict=True))
    echo_table(
        ["PAY", "WORK", *(name.upper() for name in names)],
        [[row[0].account, row[0].work, *(one.units for one in row)] for row in by_account],
    )
    click.echo()
    echo_table(
        ["PER UNIT OF WORK", *(f"{name.upper()}  VARIANCE" for name in names)],
        [
            [row[0].account, *(f"{one.per_unit:.4f}  {_variance(one.variance)}" for one in row)]
            for row in by_account
        ],
    )
    click.echo()
    balances = [_balance(result) for result in report.results]
    echo_table(
        ["UNITS", *(name.upper() for name in names)],
        [[word, *(balance[word] for balance in balances)] for word in balances[0]],
    )
    for result in report.results:
        click.echo()
        echo_table(
            [f"{result.scheme.name.upper()}: {report.account} AS", "PAY", "UNITS GAINED", "GAIN"],
            [
                [
                    one.strategy,
                    one.gain.units,
                    f"{float(one.gain.gained):,.2f}",
                    f"{100 * one.gain.relative:+.2f} %",
                ]
                for one in result.trials
            ],
        )
        if isinstance(result.scheme, Pplns):
            worth = position_worth(log, result.scheme)
            click.echo(
                f"When in a round work is done is worth {100 * worth:.3g} % at most, once the "
                f"window of {result.scheme.window:,} is full."
            )
    _print_reserve(report, reserve)


def _print_reserve(report: Report, reserve: int | None) -> None:
    facts = _reserve_facts(report, reserve)
    if facts is None or all(result.scheme.name != "pps" for result in report.results):
        return
    click.echo()
    if facts["needed"] is None:
        click.echo("pps: rejected shares cost more than levies bring; no reserve lasts")
        return
    chances = [(facts["needed"], facts["wanted"])]
    if reserve is not None:
        chances.insert(0, (reserve, facts["ruin"]))
    for units, chance in chances:
        click.echo(
            f"pps: a reserve of {units:,} is ever exhausted with probability {chance:.2g} at most"
        )


def _variance(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"

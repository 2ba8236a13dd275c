"""The reward lab's picture: pay, variance and gains beside one another. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

import click

from shares.money.lab import Report

SUFFIXES = (".svg", ".png")
_MOST_ACCOUNTS = 20


def plot(report: Report, file: Path) -> None:
    """Draw ``report`` into ``file``.

    Raises ``ClickException`` when matplotlib is not installed, naming the extra that brings it, and
    when the file cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise click.ClickException(
            "--plot needs matplotlib, which is not installed: pip install 'inferpool[lab]'"
        ) from None
    # Equal reports give equal files.
    with rc_context({"svg.hashsalt": "inferpool"}):
        figure = Figure(figsize=(11, 9), layout="constrained")
        pay, varied, gains = figure.subplots(3, 1)
        width = 0.8 / max(1, len(report.results))
        for number, result in enumerate(report.results):
            shown = result.accounts[:_MOST_ACCOUNTS]
            places = [at + number * width for at in range(len(shown))]
            label = result.scheme.name
            pay.bar(places, [one.per_unit for one in shown], width, label=label)
            varied.bar(places, [one.variance or 0.0 for one in shown], width, label=label)
            tried = [at + number * width for at in range(len(result.trials))]
            gains.barh(
                tried, [100 * one.gain.relative for one in result.trials], width, label=label
            )
        middle = 0.4 - width / 2
        for axes, title in ((pay, "pay per unit of work"), (varied, "its variance over time")):
            axes.set_title(title)
            names = [one.account for one in report.results[0].accounts[:_MOST_ACCOUNTS]]
            axes.set_xticks([at + middle for at in range(len(names))], names, rotation=45)
        # A hopper goes by jobs or by rounds, as the scheme does.
        strategies = [one.strategy.partition(" of ")[0] for one in report.results[0].trials]
        gains.set_title(f"gain of {report.account} by not working honestly, in %")
        gains.set_yticks([at + middle for at in range(len(strategies))], strategies)
        gains.axvline(0, color="black", linewidth=0.8)
        gains.invert_yaxis()
        pay.legend()
        try:
            figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {})
        except OSError as error:
            raise click.ClickException(f"cannot write {file}: {error.strerror}") from None

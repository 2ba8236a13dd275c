"""What the demo says at its end, in tables for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pool.demo.claims import CHEAT, MINERS, Claim, Outcome
from pool.demo.evidence import Record
from pool.demo.search import QUERIES
from pool.store.moneytable import Earned, MoneyTable

_EXCERPT = 88


def tell(console: Console, outcome: Outcome, claims: Sequence[Claim], output: Path | None) -> None:
    """Print everything, the verdict last."""
    _heading(console, "The output")
    console.print(
        f"{len(outcome.answered):,} vectors"
        + (f" in {output}" if output else " (--keep keeps the file)"),
        highlight=False,
        soft_wrap=True,
    )
    _heading(console, "The cheat")
    for words in cheat_told(outcome):
        console.print(words, highlight=False)
    _heading(console, "The money")
    console.print(money_table(outcome.books.money))
    _heading(console, "Who earned what, for which work")
    console.print(shares_table(outcome.books.records))
    console.print(earnings_table(outcome.books.money.accounts, outcome.books.records))
    _heading(console, "A search over the result")
    _tell_search(console, outcome)
    _heading(console, "What was promised")
    for claim in claims:
        mark = Text("holds  ", "green") if claim.holds else Text("FAILS  ", "bold red")
        console.print(mark + Text(f"{claim.says}: {claim.because}"), soft_wrap=True)
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in outcome.seconds.items())
    console.print(f"\n{stages}", highlight=False, soft_wrap=True)


def cheat_told(outcome: Outcome) -> list[str]:
    """How the cheat was found, in sentences."""
    found = outcome.books.conviction
    said = f"{CHEAT} replaced {outcome.falsified:,} of its vectors by the mean of two others."
    if found is None:
        return [said, "It was not found out."]
    shares = (
        "its first share"
        if found.shares_delivered == 1
        else f"{found.shares_delivered:,} of its shares"
    )
    how = []
    if found.wrong:
        how.append(
            f"{found.wrong:,} of the {found.rows:,} rows of share {found.share & 0xFFFFFFFF:,}"
            f" were found wrong ({', '.join(found.found_by)})"
        )
    if found.false_checks:
        how.append(f"it called {found.false_checks:,} right rows of others wrong")
    returned = outcome.books.money.accounts.get(CHEAT, Earned()).rejected
    forfeited = outcome.books.records[CHEAT].forfeited
    return [
        said,
        f"It was found out {found.seconds:.1f} s after it was given work, when it had delivered"
        f" {shares}: {'; '.join(how) or found.reason}.",
        f"The pay of the wrong share went back ({returned:,} units), all else that it had earned"
        f" was forfeited ({forfeited:,} units), its rows were computed again by others, and it is"
        " banned.",
    ]


def money_table(money: MoneyTable) -> Table:
    """Where each unit of the price is; the last line is the sum."""
    table = Table(box=SIMPLE_HEAD, show_footer=True)
    table.add_column("the price went to", footer="price")
    table.add_column("units", justify="right", footer=f"{money.price:,}")
    for name, units in (
        ("rigs, pending (no verdict yet)", money.pending),
        ("rigs, held (cleared)", money.held),
        ("rigs, available", money.available),
        ("checks", money.checks),
        ("operator (fee, referee's cost)", money.operator),
        ("reserve", money.reserve),
        ("refund to the customer", money.refund),
    ):
        table.add_row(name, f"{units:,}")
    return table


def shares_table(records: Mapping[str, Record]) -> Table:
    """What each account delivered, and what the checks said of it."""
    return _figures(
        ("account", "shares", "cleared", "rejected", "void", "rows checked", "rows wrong"),
        {
            miner: (
                record.shares,
                record.cleared,
                record.rejected,
                record.void,
                record.rows_checked,
                record.rows_wrong,
            )
            for miner, record in records.items()
        },
    )


def earnings_table(accounts: Mapping[str, Earned], records: Mapping[str, Record]) -> Table:
    """What each account earned for which work, lost, and keeps."""
    return _figures(
        ("account", "work: rows", "pay", "work: checks", "pay", "returned", "forfeited", "keeps"),
        {
            miner: (
                earned.work,
                earned.pay,
                earned.check_work,
                earned.check_pay,
                earned.rejected,
                record.forfeited,
                record.keeps,
            )
            for miner, record in records.items()
            for earned in [accounts.get(miner, Earned())]
        },
    )


def _figures(headings: Sequence[str], lines: Mapping[str, Sequence[int]]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    for miner in MINERS:
        style = "red" if miner == CHEAT else ""
        table.add_row(miner, *(f"{figure:,}" for figure in lines[miner]), style=style)
    return table


def _tell_search(console: Console, outcome: Outcome) -> None:
    for query, hits in zip(QUERIES, outcome.hits, strict=True):
        console.print(Text(f"“{query}”", "bold"))
        for hit in hits:
            excerpt = textwrap.shorten(outcome.texts[hit.row], _EXCERPT, placeholder=" …")
            console.print(Text(f"  {hit.cosine:.2f}  {outcome.places[hit.row]}\n        {excerpt}"))


def _heading(console: Console, words: str) -> None:
    console.print()
    console.print(Text(words, "bold underline"))

"""The detection matrix: every attack from fixed seeds, and its figures in docs/VALIDATION.md.

``python tests/attacks/matrix.py`` measures the short form and prints it, ``--full`` the full form;
``--write`` puts what was measured into the document. Ends with 1 when a figure of it leaves its
bounds.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "simulation"))  # a script knows its own folder only

import waits  # noqa: E402 - after the path
from attacks import ATTACKS  # noqa: E402
from campaign import Attack, run  # noqa: E402
from damage import Outcome  # noqa: E402

DOCUMENT = ROOT / "docs" / "VALIDATION.md"
FULL_TIMES = 3  # how much bigger the full form's jobs are
HEAD = (
    "| strategy | runs | caught | banned | rows until | false | delivered "
    "| profit, mean | profit, most | honest lost | checking |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def seeds(attack: Attack, *, full: bool) -> range:
    """Those of an attack: more of them where much depends on luck."""
    if full:
        return range(101, 105) if attack.loud else range(101, 113)
    return range(1, 3) if attack.luck else range(1, 2)


def measured(attack: Attack, *, full: bool) -> list[Outcome]:
    """Its outcomes, one for each seed."""
    wanted = attack.longer(FULL_TIMES) if full else attack
    found = []
    for seed in seeds(attack, full=full):
        with TemporaryDirectory() as folder:
            found.append(run(wanted, seed, Path(folder)))
    return found


def line(attack: Attack, outcomes: Sequence[Outcome]) -> str:
    """Its line of the table."""
    accounts = sum(one.attackers for one in outcomes)
    until = [one.work_until for one in outcomes if one.work_until is not None]
    profits = [one.profit for one in outcomes]
    checks = sum(one.checks for one in outcomes)
    checkable = sum(one.checkable for one in outcomes)
    cells = (
        attack.name,
        len(outcomes),
        f"{sum(one.caught for one in outcomes)}/{accounts}",
        sum(one.banned for one in outcomes),
        f"{sum(until) / len(until):.0f}" if until else "–",
        sum(one.lies for one in outcomes),
        sum(one.delivered for one in outcomes),
        _signed(sum(profits) / len(profits)),
        _signed(max(profits)),
        sum(one.honest_lost for one in outcomes),
        f"{100 * checks / checkable:.1f} %" if checkable else "–",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _signed(rows: float) -> str:
    rounded = round(rows)
    return f"+{rounded}" if rounded > 0 else f"−{-rounded}" if rounded < 0 else "0"


def wrongs(attack: Attack, outcomes: Sequence[Outcome], *, full: bool) -> list[str]:
    """What of it leaves its bounds, in words."""
    found = []
    for seed, one in zip(seeds(attack, full=full), outcomes, strict=True):
        where = f"{attack.name}, seed {seed}"
        lost = one.fined if attack.victims else one.honest_lost
        if lost or one.honest_banned or one.honest_shares:
            found.append(f"{where}: an honest rig was harmed: {one}")
        if attack.loud and one.banned < one.attackers:
            found.append(f"{where}: only {one.banned} of {one.attackers} accounts banned")
        if attack.loud and one.delivered:
            found.append(f"{where}: {one.delivered} false rows delivered")
        if attack.victims and one.banned:
            found.append(f"{where}: {one.banned} victims of a fault banned")
        if attack.blameless and (one.banned or one.caught):
            found.append(f"{where}: {one.caught} blameless accounts rejected, {one.banned} banned")
        if not full and one.profit > attack.luck:
            found.append(f"{where}: a profit of {one.profit:.1f}, above {attack.luck}")
    mean = sum(one.profit for one in outcomes) / len(outcomes)
    if full and mean > attack.gain:
        found.append(f"{attack.name}: a mean profit of {mean:.1f}, above {attack.gain}")
    return found


FULL, SHORT, WAITS = "matrix, full form", "matrix, short form", "waits"  # the tables' names


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"


def written(text: str, name: str) -> str:
    """A table of the document. Raises ``ValueError`` when its markers are missing."""
    begin, end = _markers(name)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{DOCUMENT.name} must have one {begin.strip()} and one {end}")
    return text.partition(begin)[2].partition(end)[0]


def replaced(text: str, table: str, name: str) -> str:
    """The document with another table of that name."""
    begin, end = _markers(name)
    return text.replace(begin + written(text, name) + end, begin + table + end)


def _measure(work: tuple[int, bool]) -> list[Outcome]:
    return measured(ATTACKS[work[0]], full=work[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="more seeds and bigger jobs")
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    parser.add_argument("--only", default="", help="strategies whose name matches; never written")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.only and options.write:
        parser.error("--only measures a part, so it cannot be written")
    chosen = [n for n, each in enumerate(ATTACKS) if re.search(options.only, each.name)]
    lines, found = [], []
    print(HEAD, flush=True)
    with ProcessPoolExecutor(options.processes) as workers:
        results = workers.map(_measure, [(number, options.full) for number in chosen])
        for number, outcomes in zip(chosen, results, strict=True):
            lines.append(line(ATTACKS[number], outcomes))
            found += wrongs(ATTACKS[number], outcomes, full=options.full)
            print(lines[-1], flush=True)
    if options.write:
        table = "\n".join((HEAD, *lines)) + "\n"
        text = DOCUMENT.read_text(encoding="utf-8")
        text = replaced(text, table, FULL if options.full else SHORT)
        waited, longest = waits.table()
        print(waited)
        if longest > waits.LONGEST:
            found.append(f"an honest share waited {longest:.1f} s, above {waits.LONGEST}")
        DOCUMENT.write_text(replaced(text, waited, WAITS), encoding="utf-8")
    for each in found:
        print(each, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

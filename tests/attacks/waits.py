"""How long honest shares wait for their verdict, in a calm pool and in the worst company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from attacks import ATTACKS
from campaign import Attack, run
from damage import Outcome

SEED = 3
ROWS = 2_400
COMPANY = ("referee flooding, 12 accounts", "checker that accuses", "lease hoarder", "dropper")
HEAD = "| company | shares | half within | 99 % within | the longest | the job |\n" + (
    "|---|---:|---:|---:|---:|---:|"
)
LONGEST = 25.0  # seconds of any share, in a table of the short form


def _attack(name: str) -> Attack:
    (found,) = (attack for attack in ATTACKS if attack.name == name)
    return replace(found, rows=ROWS)


def scenes() -> dict[str, Attack]:
    """The same honest rigs and the same job, alone and in company."""
    alone = replace(_attack(COMPANY[0]), recruit=lambda *_: [])
    return {"none": alone} | {name: _attack(name) for name in COMPANY}


def line(name: str, attack: Attack) -> tuple[str, Outcome]:
    """A line of the table, in virtual seconds, and what it came to."""
    with TemporaryDirectory() as folder:
        outcome = run(attack, SEED, Path(folder))
    waits = outcome.waits
    at = [waits[len(waits) // 2], waits[min(len(waits) - 1, len(waits) * 99 // 100)], waits[-1]]
    cells = (name, len(waits), *(f"{seconds:.1f} s" for seconds in at), f"{outcome.seconds:.0f} s")
    return "| " + " | ".join(map(str, cells)) + " |", outcome


def table() -> tuple[str, float]:
    """The whole of it, and the longest wait."""
    found = [line(name, attack) for name, attack in scenes().items()]
    text = "\n".join((HEAD, *(text for text, _ in found))) + "\n"
    return text, max(outcome.waits[-1] for _, outcome in found)

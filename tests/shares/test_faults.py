"""What a share may come to is documented: whose fault it is, and what it costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shares.faults import LEASES, REFUTED_LATE, VERDICTS, Fault, of_share

DOCUMENT = Path(__file__).parents[2] / "docs" / "FAULTS.md"
COSTS = {"nothing", "scheduling", "share", "fine", "hold"}


def table(rows: dict[tuple[str, str], Fault], first: str, second: str) -> str:
    lines = [f"| {first} | {second} | fault | cost | |", "|---|---|---|---|---|"]
    for (one, two), fault in rows.items():
        lines.append(f"| `{one}` | `{two}` | {fault.fault} | {fault.cost} | {fault.words} |")
    return "\n".join(lines)


def written(text: str) -> str:
    for name, content in (
        ("leases", table(LEASES, "state", "by")),
        ("verdicts", table(VERDICTS, "verdict", "reason")),
    ):
        begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end.lstrip("\n"))
        text = f"{head}{begin}{content}{end}{tail}"
    return text


def test_the_document_has_every_end_of_a_share() -> None:
    """``WRITE=1`` writes the tables anew."""
    text = DOCUMENT.read_text()
    if os.environ.get("WRITE"):
        DOCUMENT.write_text(written(text))
    assert written(text) == text


def test_only_what_the_referee_proved_costs_money() -> None:
    """No end of a lease by the network or the pool costs more than scheduling; wrong rows of an
    engine are not paid, and cost nothing else."""
    for key, fault in (LEASES | VERDICTS).items():
        assert fault.cost in COSTS, key
        if fault.fault == "engine":
            assert fault.cost == "share", key
        elif fault.fault != "rig":
            assert fault.cost in ("nothing", "scheduling"), key
    costly = ("share", "fine", "hold")
    proved = {key for key, fault in (LEASES | VERDICTS).items() if fault.cost in costly}
    assert proved == {
        ("cancelled", "rig"),
        ("rejected", "wrong_row"),
        ("rejected", "offence"),
        ("rejected", "engine_kind"),
    }


def test_a_verdict_counts_for_more_than_how_the_lease_ended() -> None:
    """And a row found late for more than that it was cleared."""
    assert of_share("done", "none", "rejected", "offence", refuted=True).cost == "hold"
    assert of_share("expired", "network", "void", "expired", refuted=False).cost == "scheduling"
    assert of_share("done", "none", "cleared", "window", refuted=True) is REFUTED_LATE
    with pytest.raises(KeyError):
        of_share("done", "none", "rejected", "because", refuted=True)

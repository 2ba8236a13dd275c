"""What may become of a share besides being done and cleared: whose fault it is, what it costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """``fault``: ``rig``, ``engine``, ``network``, ``pool`` or ``none``. ``cost``: ``nothing``;
    ``scheduling`` (its next shares come later or smaller; no money, no ban); ``share`` (its pay);
    ``fine`` (the share, and held pay of what it may have hidden); ``hold`` (pending and held pay,
    and a ban)."""

    fault: str
    cost: str
    words: str


# {(state, fault) of an ended lease: what it means}
LEASES: dict[tuple[str, str], Fault] = {
    ("done", "none"): Fault("none", "nothing", "Every row came."),
    ("expired", "rig"): Fault(
        "rig",
        "scheduling",
        "The deadline passed while the rig was connected; parts that came are paid.",
    ),
    ("expired", "network"): Fault(
        "network",
        "scheduling",
        "The rig was disconnected and did not come back in time; parts that came are paid.",
    ),
    ("released", "none"): Fault(
        "none", "scheduling", "The rig handed the rest back: it stops, or cannot compute it."
    ),
    ("released", "network"): Fault(
        "network", "scheduling", "The rig's process was new and no longer had the share."
    ),
    ("released", "rig"): Fault(
        "rig", "scheduling", "The rig no longer serves the model of the share."
    ),
    ("malformed", "rig"): Fault(
        "rig", "scheduling", "A part had a wrong shape or values that are not finite."
    ),
    ("cancelled", "none"): Fault(
        "none",
        "nothing",
        "Its rows are done, or the job was cancelled; what was on its way is paid.",
    ),
    ("cancelled", "rig"): Fault(
        "rig", "share", "A row of it was proved wrong, or the account was banned."
    ),
}

# {(verdict, reason) of a share: what it means}
VERDICTS: dict[tuple[str, str], Fault] = {
    ("cleared", "sampled"): Fault("none", "nothing", "Every drawn row matched."),
    ("cleared", "window"): Fault("none", "nothing", "No row was drawn, and its time has passed."),
    ("rejected", "wrong_row"): Fault(
        "rig", "fine", "The referee found a row wrong. A first one is forgiven at this price."
    ),
    ("rejected", "offence"): Fault(
        "rig", "hold", "Wrong rows were proved again or several at once, in this share or another."
    ),
    ("rejected", "engine_kind"): Fault(
        "engine",
        "share",
        "A row was wrong, and the same on other accounts' devices of its kind: held pay waits.",
    ),
    ("void", "expired"): Fault("none", "nothing", "No part of it came before its end."),
    ("void", "released"): Fault("none", "nothing", "No part of it came before its end."),
    ("void", "malformed"): Fault("none", "nothing", "No part of it came before its end."),
    ("void", "cancelled"): Fault("none", "nothing", "No part of it came before its end."),
}


# Of a share that was cleared before a row of it was found wrong.
REFUTED_LATE = Fault(
    "rig",
    "fine",
    "The referee found a row wrong after the share was cleared: its pay stays, held pay answers.",
)


EXCUSED = VERDICTS["rejected", "engine_kind"]


def of_share(state: str, fault: str, verdict: str, reason: str | None, *, refuted: bool) -> Fault:
    """What counts of a share: its verdict if it was rejected, else how its lease ended.

    ``refuted``: a row of it was found wrong.

    Raises ``KeyError`` for what is not documented.
    """
    if verdict == "rejected":
        return VERDICTS[verdict, reason or ""]
    return REFUTED_LATE if refuted else LEASES[state, fault]

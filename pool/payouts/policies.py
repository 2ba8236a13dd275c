"""Policies: an operator's own rules about whom the pool pays, and how much.

A policy is a function of a ``Case`` that gives a ``Decision``. It comes from an entry point of the
group ``inferpool.payout_policies``, a function of the operator's settings for it (a dictionary)
that gives the policy. All policies are asked; the strictest answer counts, and one that fails
holds the payout: no rule was kept by nobody looking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pool.store.payees import Attestation

GROUP = "inferpool.payout_policies"


class PolicyError(Exception):
    """A policy cannot be used as the settings say."""


@dataclass(frozen=True, slots=True)
class Case:
    """A payout that is to be made. ``recent`` gives the units paid in the last so many seconds."""

    account: str
    units: int
    kind: str
    address: str
    attestation: Attestation | None
    at: float
    recent: Callable[[float], int]


@dataclass(frozen=True, slots=True)
class Decision:
    """``allow``, ``hold`` (a person must agree) or ``refuse`` (ask again in the next round)."""

    verdict: str
    reason: str = ""


ALLOW = Decision("allow")
_STRICTNESS = ("allow", "hold", "refuse")

Policy = Callable[[Case], Decision]


def load_policies(wanted: Iterable[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Policy]]:
    """Policies by name with their settings. Raises ``PolicyError`` naming the policy."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    policies = []
    for name, settings in wanted:
        if name not in found:
            raise PolicyError(
                f"payouts.policies: there is no policy {name!r}; there are "
                f"{', '.join(sorted(found)) or 'none'}: install what provides it "
                f"(entry point group {GROUP})"
            )
        try:
            policies.append((name, found[name].load()(dict(settings))))
        except Exception as error:
            raise PolicyError(f"payouts.policies: {name}: {error}") from error
    return policies


def decide(policies: Iterable[tuple[str, Policy]], case: Case) -> Decision:
    """The strictest answer of all policies; the first of equally strict ones gives the reason."""
    strictest = ALLOW
    for name, policy in policies:
        try:
            decision = policy(case)
            rank = _STRICTNESS.index(decision.verdict)
        except Exception as error:
            decision = Decision("hold", f"it failed: {type(error).__name__}: {error}"[:200])
            rank = 1
        if rank > _STRICTNESS.index(strictest.verdict):
            strictest = Decision(decision.verdict, f"{name}: {decision.reason}")
    return strictest


# ── two that come with the pool ──────────────────────────────────────────────


def block_list(settings: dict[str, Any]) -> Policy:
    """Refuse listed addresses: ``file`` holds one a line; empty lines and ``#`` say nothing.

    The file is read for every payout, so that a new line counts at once.
    """
    path = Path(_only(settings, "file", str))
    _listed(path)

    def policy(case: Case) -> Decision:
        if _folded(case.address) in _listed(path):
            return Decision("refuse", "the address is on the operator's list")
        return ALLOW

    return policy


def cap(settings: dict[str, Any]) -> Policy:
    """Hold what takes an account above ``units`` within ``days``."""
    settings = dict(settings)
    days = settings.pop("days", 1)
    if type(days) not in (int, float) or not 0 < days <= 3660:
        raise ValueError(f"days must be a number from above 0 to 3660, not {days!r}")
    units = _only(settings, "units", int)
    if units < 1:
        raise ValueError(f"units must be at least 1, not {units}")

    def policy(case: Case) -> Decision:
        total = case.recent(days * 86_400) + case.units
        if total > units:
            return Decision("hold", f"{total} units within {days:g} days are above {units}")
        return ALLOW

    return policy


def _listed(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {_folded(line.partition("#")[0]) for line in lines} - {""}


def _folded(address: str) -> str:
    # Two spellings of one address, and a careless list, must not let anybody through.
    return "".join(address.split()).casefold()


def _only(settings: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    unknown = sorted(settings.keys() - {name})
    if unknown:
        raise ValueError(f"there is no setting {unknown[0]!r}")
    if type(settings.get(name)) is not kind:
        raise ValueError(f"the setting {name!r} is missing, or no {kind.__name__}")
    return settings[name]

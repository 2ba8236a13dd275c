"""Giving out a whole number of units, bit by bit or to many, so that it adds up exactly."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


def due(total: int, done: int, of: int) -> int:
    """Units of ``total`` earned when ``done`` of ``of`` is done: floor(total · done / of).

    Posting the difference to what was posted before adds up to ``total`` exactly when ``done``
    reaches ``of``, whatever the steps. Raises ``ValueError`` unless ``0 <= done <= of``.
    """
    if not 0 <= done <= of:
        raise ValueError(f"done must be between 0 and {of}, not {done}")
    if of == 0:
        return 0
    return total * done // of


# ── over many accounts at once ───────────────────────────────────────────────

PARTS = 1 << 32
"""Carried fractions are counted in these parts of a unit."""


@dataclass(frozen=True, slots=True)
class Apportionment:
    """Whole units for each account, and the fraction of one that each still has to come.

    ``total`` is ``sum(units.values()) + kept``: what is kept backs the fractions. It is below zero
    where fractions of earlier times became whole units: then what was kept pays.
    """

    units: dict[str, int]
    carried: dict[str, int]  # in PARTS of a unit, from 0 to PARTS - 1
    kept: int


def apportion(
    total: int, weights: Mapping[str, int], carried: Mapping[str, int], key: bytes
) -> Apportionment:
    """Divide ``total`` units among accounts in proportion to their ``weights``.

    What an account is due is its exact part (in ``PARTS`` of a unit) and what it carries. It gets
    the whole units of that; the fraction is carried to the next time, and the units that back the
    fractions are kept. Parts that are left go to the largest remainders (Hamilton's method), ties
    by HMAC-SHA256 of the name under ``key``: neither order nor choice of a name is worth anything.

    Nobody is advanced a unit, for an account that takes one and stays away would keep it, and who
    came with many accounts would get many. So whoever divides work over accounts gains at most one
    unit over their lifetime, as long as accounts times rounds are fewer than ``PARTS``: whole units
    of several parts are never more than those of their sum, and a remainder is worth one part.

    Raises ``ValueError`` for a negative total, weight or fraction, and for weights that are all
    zero.
    """
    if total < 0:
        raise ValueError(f"total must not be negative: {total}")
    if any(weight < 0 for weight in weights.values()):
        raise ValueError("a weight is negative: give each account's work")
    if any(parts < 0 for parts in carried.values()):
        raise ValueError("a carried fraction is negative: give what apportion carried before")
    whole = sum(weights.values())
    if whole == 0:
        raise ValueError("all weights are zero: there is nobody to divide among")
    names = [name for name, weight in weights.items() if weight]
    exact = {name: divmod(total * PARTS * weights[name], whole) for name in names}
    parts = {name: quotient for name, (quotient, _) in exact.items()}
    spare = total * PARTS - sum(parts.values())
    for name in _largest({name: rest for name, (_, rest) in exact.items()}, spare, key):
        parts[name] += 1
    split = {name: divmod(parts[name] + carried.get(name, 0), PARTS) for name in names}
    units = {name: unit for name, (unit, _) in split.items()}
    after = dict(carried) | {name: fraction for name, (_, fraction) in split.items()}
    return Apportionment(units, after, total - sum(units.values()))


def close_out(carried: Mapping[str, int], key: bytes) -> dict[str, int]:
    """Give out the units that back carried fractions, when no next time comes.

    Whole units to whom they belong, and those that are left to the largest fractions, ties as in
    ``apportion``. After a single ``apportion`` both together are Hamilton's method. Raises
    ``ValueError`` when the fractions do not add up to whole units: some of them are missing.
    """
    backing, broken = divmod(sum(carried.values()), PARTS)
    if broken:
        raise ValueError("the fractions are not whole units together: give those of all accounts")
    units = {name: parts // PARTS for name, parts in carried.items()}
    fractions = {name: parts % PARTS for name, parts in carried.items()}
    for name in _largest(fractions, backing - sum(units.values()), key):
        units[name] += 1
    return {name: unit for name, unit in units.items() if unit}


def _largest(rests: Mapping[str, int], count: int, key: bytes) -> Iterable[str]:
    if not count:
        return ()
    return sorted(rests, key=lambda name: (-rests[name], tie_break(name, key)))[:count]


def tie_break(name: str, key: bytes) -> bytes:
    """What decides between equals: HMAC-SHA256 of the name, so that no name is a good one."""
    return hmac.digest(key, name.encode(), "sha256")

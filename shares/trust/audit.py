"""Whether the rows of a miner that were checked are those that had to be.

Everything that a draw follows from is told afterwards: with the part what its rig held, the price,
its ordinary row and why it was sampled as it was; with the epoch the policy's numbers and the key
that was promised when the epoch opened. ``audit`` computes rates and rows anew and compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shares.receipts import Receipt
from shares.trust.epochkeys import commitment, leads_to
from shares.trust.sampling import CHECK, REASONS, REFEREE, draw, least_of, rates_ppm

_Run = tuple[int, int]

# How checks end of a part that is cleared.
_FINE = ("matched", "accuser_wrong")
_OPINION = ("heard", "void")


class EpochFacts(msgspec.Struct, frozen=True):
    """An epoch as published. Hashes and keys in hex; ``key`` is ``None`` while it is secret."""

    epoch: int
    key_hash: str
    key: str | None
    chain: int
    place: int
    anchor: str
    policy: int
    kappa: int
    check_floor_ppm: int
    referee_floor_ppm: int
    neighbour_floor_ppm: int


class CheckFacts(msgspec.Struct, frozen=True):
    """What became of a drawn row of a part; ``outcome`` is ``None`` while it is open."""

    row: int
    by: str
    outcome: str | None


class DrawFacts(msgspec.Struct, frozen=True):
    """What was drawn of a part. ``won`` and ``over`` are runs (start, stop) of rows of the part:
    that count for the customer; that are of blocks that were over. ``least``: runs (start, stop,
    ppm) of rows with a least chance for ``check_rows``, which their customer bought. ``checks``: of
    the drawn rows, and of others when the part's rig was wrong elsewhere (``PartFacts.suspect``).
    """

    won: list[_Run]
    over: list[_Run]
    least: list[tuple[int, int, int]]
    check_rows: list[int]
    referee_rows: list[int]
    checks: list[CheckFacts]


class PartFacts(msgspec.Struct, frozen=True):
    """An accepted part. ``works``: runs of (work, rows); ``digest`` in hex; ``draw`` is ``None``
    until its epoch's key is published."""

    lease: int
    part: int
    rows: int
    digest: str
    epoch: int
    why: str
    held: int
    price: int
    row_work: int
    check_rate_ppm: int
    referee_rate_ppm: int
    works: list[_Run]
    suspect: bool
    verdict: str
    draw: DrawFacts | None


@dataclass(slots=True)
class Audit:
    """What was compared, and what differs."""

    parts: int = 0
    secret: int = 0  # parts whose epoch's key is not published yet
    rows: int = 0  # of parts that were audited
    drawn: int = 0  # rows of these that had to be computed again
    by_rigs: int = 0
    by_referee: int = 0
    others: int = 0  # rows checked since their rig was wrong elsewhere
    reasons: Counter[str] = field(default_factory=Counter)  # {why: rows}
    outcomes: Counter[str] = field(default_factory=Counter)  # {outcome: rows}
    failures: list[str] = field(default_factory=list)


def audit(
    parts: Iterable[PartFacts],
    epochs: Iterable[EpochFacts],
    receipts: Iterable[Receipt] = (),
    noted: Mapping[int, str] | None = None,
) -> Audit:
    """Compute every draw again and compare it with what the pool says.

    ``receipts``: what the rig was promised; a part that differs from its receipt is a failure, and
    so is a receipt without its part. ``noted``: {epoch: key_hash} as somebody saw it while the
    epoch was open.
    """
    result = Audit()
    known = _epochs(epochs, noted or {}, result)
    promised = {(r.leaf.lease, r.leaf.part): r for r in receipts}
    seen: set[tuple[int, int]] = set()
    for part in parts:
        place = (part.lease, part.part)
        name = f"lease {part.lease}, part {part.part}"
        if place in seen:
            result.failures.append(f"{name}: told twice")
            continue
        seen.add(place)
        result.parts += 1
        receipt = promised.pop(place, None)
        if receipt is not None:
            leaf = receipt.leaf
            if (leaf.rows, leaf.digest.hex()) != (part.rows, part.digest):
                result.failures.append(f"{name}: rows or digest differ from its receipt")
        epoch = known.get(part.epoch)
        if epoch is None:
            result.failures.append(f"{name}: its epoch {part.epoch} is not among those given")
        elif epoch.key is None or part.draw is None:
            result.secret += 1
            if epoch.key is not None:
                result.failures.append(f"{name}: its draw is withheld, but its key is published")
        else:
            _compare(part, part.draw, epoch, bytes.fromhex(epoch.key), name, result)
    for lease, number in promised:
        result.failures.append(f"lease {lease}, part {number}: has a receipt and is not told")
    return result


def _epochs(
    epochs: Iterable[EpochFacts], noted: Mapping[int, str], result: Audit
) -> dict[int, EpochFacts]:
    """By number; keys that do not keep their promise are failures."""
    known = {epoch.epoch: epoch for epoch in epochs}
    before: dict[int, tuple[int, bytes]] = {}  # {chain: (place, key) published last}
    for number, epoch in sorted(known.items()):
        name = f"epoch {number}"
        if noted.get(number, epoch.key_hash) != epoch.key_hash:
            result.failures.append(f"{name}: its key_hash is not the one that was noted")
        if epoch.key is None:
            continue
        key = bytes.fromhex(epoch.key)
        if commitment(key).hex() != epoch.key_hash:
            result.failures.append(f"{name}: its key is not the one that was promised by key_hash")
        place, earlier = before.get(epoch.chain, (0, bytes.fromhex(epoch.anchor)))
        if not leads_to(key, epoch.place, earlier, place):
            result.failures.append(f"{name}: its key does not belong to chain {epoch.chain}")
        before[epoch.chain] = (epoch.place, key)
    return known


def _compare(
    part: PartFacts, told: DrawFacts, epoch: EpochFacts, key: bytes, name: str, result: Audit
) -> None:
    failures = result.failures
    if part.why not in REASONS:
        failures.append(f"{name}: why is {part.why!r}, not one of {', '.join(REASONS)}")
        return
    if (given := sum(rows for _, rows in part.works)) != part.rows:
        failures.append(f"{name}: works are given of {given} rows, not of {part.rows}")
        return
    works = np.repeat([work for work, _ in part.works], [rows for _, rows in part.works])
    result.rows += part.rows
    result.reasons[part.why] += part.rows
    rates = rates_ppm(
        part.why,
        part.held,
        part.price,
        part.row_work,
        epoch.kappa,
        epoch.check_floor_ppm,
        epoch.referee_floor_ppm,
        epoch.neighbour_floor_ppm,
    )
    stated = (part.check_rate_ppm, part.referee_rate_ppm)
    if stated != rates:
        failures.append(f"{name}: sampled at {stated} ppm, where {rates} follows from its hold")
    digest = bytes.fromhex(part.digest)
    must: dict[str, set[int]] = {}
    least = least_of(told.least, part.rows)
    for purpose, rate, eligible, floors, rows in (
        (CHECK, rates[0], _marked(told.won, part.rows), least, told.check_rows),
        (REFEREE, rates[1], ~_marked(told.over, part.rows), 0, told.referee_rows),
    ):
        numbers = (part.lease, part.part, digest, works, rate, part.row_work)
        drawn = draw(key, purpose, *numbers, eligible, floors)
        must[purpose] = set(drawn)
        more, less = sorted(set(rows) - set(drawn)), sorted(set(drawn) - set(rows))
        if more:
            failures.append(f"{name}: {purpose} rows {_few(more)} were drawn and had not to be")
        if less:
            failures.append(f"{name}: {purpose} rows {_few(less)} had to be drawn and were not")
    result.by_rigs += len(must[CHECK])
    result.by_referee += len(must[REFEREE])
    drawn_rows = must[CHECK] | must[REFEREE]
    result.drawn += len(drawn_rows)
    checked = Counter(check.row for check in told.checks)
    if missed := sorted(drawn_rows - set(checked)):
        failures.append(f"{name}: rows {_few(missed)} were drawn and not checked")
    # Witnesses are asked for a row that the referee found wrong: its share cannot clear.
    asked = Counter(check.row for check in told.checks if check.by == "witness")
    if asked and part.verdict == "cleared":
        failures.append(
            f"{name}: cleared, though witnesses were asked for rows {_few(sorted(asked))}"
        )
    # So are opinions, for a row on which the referee's word is not clear.
    asked += Counter(check.row for check in told.checks if check.by == "opinion")
    others = sorted(checked - asked - Counter(drawn_rows))
    if others and not part.suspect:
        failures.append(f"{name}: rows {_few(others)} were checked and not drawn")
    result.others += len(others)
    if part.verdict == "cleared":
        for check in told.checks:
            if check.outcome not in (_OPINION if check.by == "opinion" else _FINE):
                failures.append(
                    f"{name}: cleared, though its row {check.row} ended as {check.outcome}"
                )
    result.outcomes.update(check.outcome or "open" for check in told.checks)


def _marked(runs: Iterable[_Run], rows: int) -> NDArray[np.bool_]:
    marked = np.zeros(rows, np.bool_)
    for start, stop in runs:
        marked[start:stop] = True
    return marked


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")


def parts_from_json(values: list[dict[str, Any]]) -> list[PartFacts]:
    """Parts as the pool tells them. Raises ``ValueError`` naming the field."""
    return msgspec.convert(values, list[PartFacts])


def epochs_from_json(values: list[dict[str, Any]]) -> list[EpochFacts]:
    """Epochs as the pool tells them. Raises ``ValueError`` naming the field."""
    return msgspec.convert(values, list[EpochFacts])

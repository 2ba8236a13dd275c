"""Which rows of an accepted part are computed again: rates and the draw.

Pure, in integers, and enough by itself to recompute any draw offline from what is stored with
the part and the epoch's key once that is published (``shares.trust.audit`` does).

The draw. ``seed = HMAC-SHA256(key, "inferpool/draw/1" 0 purpose 0 lease part digest)`` with the
lease as 8 and the part as 4 big-endian bytes; ``SHAKE-256(seed)`` gives 8 big-endian bytes for
each row of the part. Row ``i`` is drawn when that number is below ``p_i · 2**64``, where
``p_i = min(1, rate · work_i / row_work)`` and ``row_work`` is the work of the rig's ordinary row.
``rate`` and ``row_work`` are stored with the part. A rate of 1 draws every row.

Assurance that a customer bought gives rows a least chance of their own, whatever their work: then
``p_i = max(least_i, min(1, rate · work_i / row_work))``. It is stored with the part as runs of
rows (``least_of``), and is for checks by rigs only.

Why that chance. A rig that makes up a row of work ``w`` saves less than its pay, ``price · w``;
when it is found out it loses ``held``. It must lose at least κ times what it may gain from any
row, so every row needs ``p · held >= κ · price · w``, or else ``p = 1``, when it gains nothing.
With ``h = held / (price · row_work)``, what is held in ordinary rows, and
``rate = min(1, max(λ, κ / h))``,

    p · held = rate · w / row_work · held >= κ / h · w / row_work · held = κ · price · w.

So ``row_work`` cancels: whatever a rig makes of its ordinary row, no row of it is sampled too
thinly, and in κ / h each unit of work bears the same risk. ``row_work`` decides only how much is
checked at the floor. The other rows of the part are no part of it: a heavy row is as likely to be
drawn alone as among light ones, so nothing is gained by choosing where parts end.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from shares.policy import PPM

CHECK = "check"  # rows that a rig of another account computes again
REFEREE = "referee"  # rows that the referee computes again

# Why a part is sampled at the rates that it is.
HELD = "held"  # by what its rig holds
PROBATION = "probation"  # its rig is not established with the model
NEIGHBOUR = "neighbour"  # as HELD, but one of its network block was banned
SUSPECT = "suspect"  # its rig was wrong elsewhere
NO_KEY = "no_key"  # no epoch was open
REASONS = (HELD, PROBATION, NEIGHBOUR, SUSPECT, NO_KEY)

_DOMAIN = b"inferpool/draw/1"
_SLACK = 1e-9  # far above the error of the float64 product that preselects rows


def rate_ppm(held: int, price: int, row_work: int, kappa: int, floor_ppm: int) -> int:
    """``min(1, max(floor, κ/h))`` in parts per million, rounded up.

    ``h = held / price / (row_work / 1000)`` is the held pay in ordinary rows: ``held`` in units,
    ``price`` in units per unit of work, ``row_work`` the work of such a row in thousandths.
    """
    if held <= 0 or row_work <= 0 or price <= 0:
        return PPM
    return min(PPM, max(floor_ppm, -(-kappa * price * row_work * (PPM // 1000) // held)))


def rates_ppm(
    why: str,
    held: int,
    price: int,
    row_work: int,
    kappa: int,
    check_floor_ppm: int,
    referee_floor_ppm: int,
    neighbour_floor_ppm: int,
) -> tuple[int, int]:
    """A part's rates, by rigs and by the referee, in parts per million.

    ``why``: one of ``REASONS``. The others as for ``rate_ppm``; the floors are λ, ρ, and what takes
    the place of λ for a ``NEIGHBOUR``.
    """
    if why == NO_KEY:
        return PPM, PPM
    by_referee = rate_ppm(held, price, row_work, kappa, referee_floor_ppm)
    if why == NEIGHBOUR:
        check_floor_ppm = max(check_floor_ppm, neighbour_floor_ppm)
    elif why != HELD:
        return PPM, by_referee
    return rate_ppm(held, price, row_work, kappa, check_floor_ppm), by_referee


def draw(
    key: bytes,
    purpose: str,
    lease: int,
    part: int,
    digest: bytes,
    works: NDArray[np.int64],
    rate: int,
    row_work: int,
    eligible: NDArray[np.bool_] | None = None,
    least: int | NDArray[np.int64] = 0,
) -> tuple[int, ...]:
    """Rows of the part that are drawn for ``purpose``, in ascending order.

    ``works`` int64 [rows]: work of each row of the part. ``rate`` in parts per million for a row
    of the rig's ordinary work, ``row_work`` (in thousandths; 0 when the rig has none yet: all).
    ``eligible`` bool [rows]: rows that may be drawn (all by default); it takes rows out of the
    result and changes nothing for the others. ``least`` int64 [rows], or one for all: the chance
    below which a row's never is, in parts per million.
    """
    rows = len(works)
    if rate >= PPM or row_work <= 0:
        chosen = np.arange(rows)
        return tuple(chosen.tolist() if eligible is None else chosen[eligible].tolist())
    floors = np.broadcast_to(np.asarray(least, np.int64), rows)
    if rows == 0 or (rate <= 0 and not floors.any()):
        return ()
    message = b"\0".join((_DOMAIN, purpose.encode(), b""))
    message += lease.to_bytes(8, "big") + part.to_bytes(4, "big") + digest
    seed = hmac.digest(key, message, "sha256")
    numbers = np.frombuffer(hashlib.shake_256(seed).digest(8 * rows), dtype=">u8")
    # Float64 preselects, a little too much; integers decide.
    likely = works * (rate / (1000 * row_work) * (1 + _SLACK)) + _SLACK
    likely = np.maximum(likely, floors * ((1 + _SLACK) / PPM))
    near = numbers.astype(np.float64) / 2.0**64 <= likely
    if eligible is not None:
        near &= eligible
    return tuple(
        row
        for row in np.flatnonzero(near).tolist()
        if int(numbers[row]) * 1000 * row_work < (rate * int(works[row])) << 64
        or int(numbers[row]) * PPM < int(floors[row]) << 64
    )


def least_of(runs: Iterable[tuple[int, int, int]], rows: int) -> NDArray[np.int64]:
    """Least chances int64 [rows] in parts per million, from what is stored with a part:
    (first row, row after the last, ppm) for each run of rows that have one.
    """
    least = np.zeros(rows, np.int64)
    for first, stop, ppm in runs:
        least[first:stop] = ppm
    return least

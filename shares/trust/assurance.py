"""Assurance that a customer buys for a job: what it asks for, and how much more is checked for it.

A claim ``P/F`` says: with the probability P no more than the fraction F of the job's rows is
false. It is broken by ``k = floor(F · n) + 1`` false rows of ``n``, or more. When every row is
computed again with the chance ``q`` by itself, whatever its work, all of k false rows are missed
with ``(1 - q)^k``. That must not exceed ``1 - P``, so

    q = 1 - (1 - P)^(1/k).

(Sampling for attributes with acceptance number 0: Dodge and Romig, "Sampling Inspection Tables",
1944; here each row is drawn by itself, so the number of missed rows is binomial, not
hypergeometric, and the bound holds for whatever rows are false.) Rows are drawn after they are
committed, so nobody can choose which rows are false by what was drawn.

The chance is rounded up to parts per million, by integers, so that no machine's logarithm
decides what a customer is charged.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from shares.policy import PPM

KEY = "assurance"  # in a batch's metadata
FIELD = f"metadata.{KEY}"
FULL = "full"
TRUSTED = "trusted"

_REMEDY = (
    'write "full" (every row twice), "trusted" (rigs on the operator\'s list), or PROBABILITY/'
    'FRACTION such as "0.999/0.001" (with probability 0.999 at most 0.1 % of the rows are false)'
)
_DIGITS = 9  # after the decimal point: what a claim may say is far coarser
_LONGEST = 40


class AssuranceError(ValueError):
    """An assurance that cannot be read or had; the text names the field and the remedy."""


@dataclass(frozen=True, slots=True)
class Assurance:
    """What a customer asked for. The default is the pool's ordinary checking and any rig.

    ``probability`` and ``fraction`` are P and F of the claim, 0 and 0 where there is none.
    """

    full: bool = False
    trusted: bool = False
    probability: Fraction = Fraction(0)
    fraction: Fraction = Fraction(0)

    def rate_ppm(self, rows: int) -> int:
        """The least chance for each of a job's ``rows`` to be checked, in parts per million."""
        if self.full:
            return PPM
        if not self.probability or rows < 1:
            return 0
        return claim_ppm(self.probability, broken_by(self.fraction, rows))


NO_ASSURANCE = Assurance()


def parse_assurance(text: str | None) -> Assurance:
    """Read ``full``, ``trusted`` or ``P/F``; None asks for nothing. Raises ``AssuranceError``."""
    if text is None:
        return NO_ASSURANCE
    if text == FULL:
        return Assurance(full=True)
    if text == TRUSTED:
        return Assurance(trusted=True)
    parts = text.split("/")
    if len(parts) != 2 or len(text) > _LONGEST:
        raise AssuranceError(f"{FIELD} is {text[:_LONGEST]!r}: {_REMEDY}")
    probability, fraction = (_decimal(part) for part in parts)
    if probability is None or fraction is None:
        raise AssuranceError(f"{FIELD} is {text!r}: {_REMEDY}")
    if not 0 < probability < 1:
        raise AssuranceError(
            f"{FIELD} is {text!r}: its probability must lie between 0 and 1, such as 0.999; "
            f'for certainty write "{FULL}"'
        )
    if not 0 <= fraction < 1:
        raise AssuranceError(
            f"{FIELD} is {text!r}: its fraction of false rows must be at least 0 and below 1, "
            "such as 0.001"
        )
    return Assurance(probability=probability, fraction=fraction)


def broken_by(fraction: Fraction, rows: int) -> int:
    """The fewest false rows of ``rows`` that are more than this fraction of them."""
    return fraction.numerator * rows // fraction.denominator + 1


def claim_ppm(probability: Fraction, wrong: int) -> int:
    """The least chance q, in whole parts per million, with ``(1 - q)^wrong <= 1 - probability``.

    ``wrong`` is 1 at least. Raises ``ValueError`` otherwise.
    """
    if wrong < 1:
        raise ValueError(f"wrong must be at least 1, not {wrong}")
    missed = 1 - probability
    low, high = 0, PPM  # the answer is above low and not above high
    while high - low > 1:
        middle = (low + high) // 2
        if _power_at_most(PPM - middle, wrong, missed):
            high = middle
        else:
            low = middle
    return high


_EXACTLY = 64  # powers up to this one are compared without rounding
_BITS = 256  # of the fixed-point numbers in which larger ones are bounded from above


def _power_at_most(spared: int, exponent: int, limit: Fraction) -> bool:
    """Whether (spared / PPM)^exponent <= limit; a large power is rounded up, by far less than
    one part in a million of its base makes a difference.
    """
    if exponent <= _EXACTLY:
        power, one = int(spared**exponent), int(PPM**exponent)
        return power * limit.denominator <= limit.numerator * one
    one = 1 << _BITS
    power, base = one, -(-(spared << _BITS) // PPM)
    while exponent:
        if exponent & 1:
            power = -(-power * base >> _BITS)
        base = -(-base * base >> _BITS)
        exponent >>= 1
    return power * limit.denominator <= limit.numerator << _BITS


def _decimal(text: str) -> Fraction | None:
    """A plain decimal number such as 0.999; None for anything else."""
    whole, _, rest = text.partition(".")
    plain = text.isascii() and whole.isdecimal() and (rest.isdecimal() or "." not in text)
    if not plain or len(rest) > _DIGITS:
        return None
    return Fraction(text)

"""What a job costs: pay for its work, a levy for its checks, a fee for the operator."""

from __future__ import annotations

from dataclasses import dataclass

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """A job's price in units. ``pay`` is ``work`` times ``unit``."""

    work: int
    unit: int  # units a unit of work
    pay: int
    check: int
    fee: int

    @property
    def total(self) -> int:
        """What the customer is to have."""
        return self.pay + self.check + self.fee


def price_of(work: int, *, unit: int, levy_ppm: int, fee_ppm: int) -> Price:
    """Price ``work`` units of work; levy and fee are rounded up to whole units.

    Raises ``ValueError`` for negative arguments.
    """
    for name, value in (
        ("work", work),
        ("unit", unit),
        ("levy_ppm", levy_ppm),
        ("fee_ppm", fee_ppm),
    ):
        if value < 0:
            raise ValueError(f"{name} must not be negative: {value}")
    pay = work * unit
    return Price(
        work=work,
        unit=unit,
        pay=pay,
        check=-(-pay * levy_ppm // PPM),
        fee=-(-pay * fee_ppm // PPM),
    )

"""What the referee gives of rows."""

from __future__ import annotations

from dataclasses import dataclass

from shares.results import DIGEST_BYTES, RowResult


@dataclass(frozen=True, slots=True)
class Computed:
    """Digests of some rows, in the order in which they were asked for; and their results, where
    honest ones are not the same bits and have to be compared."""

    digests: bytes  # 16 a row
    results: tuple[RowResult, ...] = ()

    def __len__(self) -> int:
        """How many rows."""
        return len(self.digests) // DIGEST_BYTES

    def __add__(self, more: Computed) -> Computed:
        """These rows, then others."""
        return Computed(self.digests + more.digests, self.results + more.results)

    def __getitem__(self, position: int) -> Computed:
        """One row."""
        start = DIGEST_BYTES * position
        return Computed(
            self.digests[start : start + DIGEST_BYTES], self.results[position : position + 1]
        )


NOTHING = Computed(b"")

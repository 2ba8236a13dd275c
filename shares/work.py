"""Work: the integer by which a row is priced, cut, paid and sampled.

``work = max(1, ceil(multiply-accumulates / 10**6))``, from the model's shape and the row's
length alone. The pool computes it; nobody declares it. It is a sum over rows, so cutting a
batch into other shares never changes what is paid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MACS_PER_WORK = 1_000_000


@dataclass(frozen=True, slots=True)
class WorkShape:
    """What one row costs, as a polynomial of its length in tokens.

    ``macs(n) = per_token · n + per_pair · n²``. For a transformer encoder of L layers, hidden
    size H and intermediate size F: ``per_token = L·(4H² + 2HF)``, ``per_pair = 2·L·H``.
    """

    per_token: int
    per_pair: int

    def macs(self, tokens: int) -> int:
        """Multiply-accumulates of one row of ``tokens`` tokens."""
        return self.per_token * tokens + self.per_pair * tokens * tokens

    def work(self, tokens: int) -> int:
        """Work of one row of ``tokens`` tokens; at least 1."""
        return max(1, -(-self.macs(tokens) // MACS_PER_WORK))

    def works(self, lengths: NDArray[np.integer]) -> NDArray[np.int64]:
        """Work of many rows: ``lengths`` int [rows] to int64 [rows]."""
        n = lengths.astype(np.int64)
        macs = self.per_token * n + self.per_pair * n * n
        works: NDArray[np.int64] = np.maximum(1, -(-macs // MACS_PER_WORK))
        return works

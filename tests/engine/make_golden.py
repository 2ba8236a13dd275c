"""Writes the golden vectors anew, from the specification.

``python tests/engine/make_golden.py``. Do that only when the arithmetic is meant to change:
every manifest made before then means something else afterwards.
"""

from __future__ import annotations

import json
from pathlib import Path

import gpu_worker.engine.golden as package
from gpu_worker.engine.golden.cases import CASES, Case
from gpu_worker.engine.golden.check import VECTORS, covers, digests
from gpu_worker.engine.numerics import EXACT, Exact
from gpu_worker.engine.ops import Ops
from gpu_worker.engine.ops_numpy import NumpyOps

LONGEST = "attention.sink 32768"
"""Does not fit the specification's memory: the fast twin makes it."""


def main() -> None:
    def of(case: Case, numerics: str) -> dict[str, str]:
        make: type[Ops] = NumpyOps if case.name == LONGEST else Ops

        def make_ops(kind: Exact) -> Ops:
            return make(kind)

        return digests(case, make_ops, numerics)

    vectors = {
        "about": "docs/EXACT.md, section 12",
        "digests": {
            numerics: {case.name: of(case, numerics) for case in CASES if covers(case, numerics)}
            for numerics in EXACT
        },
    }
    path = Path(package.__path__[0], VECTORS)
    path.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""An engine for device processes in tests: it does as the folder named by ``GATE`` says.

Before each chunk it leaves ``at-PID`` there and waits while ``hold`` exists. Where ``lose``,
``crash``, ``memory`` or ``fail`` exists, it ends in that way.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_worker.engine import Chunk, DeviceLost, Engine, EngineError, OutOfMemory, load_engine


class Gated(Engine):
    width, dtype = 32, "|u1"

    def __init__(self, inner: Engine, gate: Path) -> None:
        self._inner = inner
        self._gate = gate
        self._seconds = 0.0

    def run(
        self, operation: str, lengths: Any, tokens: Any, rows_per_chunk: int
    ) -> Iterator[Chunk]:
        for chunk in self._inner.run(operation, lengths, tokens, rows_per_chunk):
            self._pass(os.getpid())
            self._seconds += 0.25
            yield chunk

    def stages(self) -> dict[str, float]:
        return {"gate": self._seconds}

    def close(self) -> None:
        (self._gate / f"closed-{os.getpid()}").touch()

    def _pass(self, pid: int) -> None:
        (self._gate / f"at-{pid}").touch()
        while (self._gate / "hold").exists():
            time.sleep(0.002)
        if (self._gate / "lose").exists():
            raise DeviceLost("the bus dropped the device")
        if (self._gate / "crash").exists():
            sys.stderr.write("illegal memory access\n")
            sys.stderr.flush()
            os._exit(7)
        if (self._gate / "memory").exists():
            raise OutOfMemory("one row needs 5 GiB")
        if (self._gate / "fail").exists():
            raise EngineError("a row is wrong")


def load(manifest: Any, files: Any, **options: Any) -> Engine:
    gate = Path(os.environ["GATE"])
    if (gate / "unsupported").exists():
        raise EngineError("this architecture is not supported")
    # What a library prints must not reach the frames.
    print("loading")
    return Gated(load_engine(manifest, files, **options), gate)

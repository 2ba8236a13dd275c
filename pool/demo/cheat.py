"""The demo's cheat: the ordinary rig with an engine that lies in one row of five.

    python -m pool.demo.cheat --pool stratum+tcp://127.0.0.1:3333 --user mallory.rig1 --token-file F

Everything but the engine is the worker's own: it connects, stages the model and keeps its
promises as an honest rig does. Only the pool's checks can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import structlog
import trio
from numpy.typing import NDArray

from gpu_worker.config import RigConfig, parse_pool
from gpu_worker.console import configure_logs
from gpu_worker.engine import Chunk, Engine, load_engine
from gpu_worker.rig import Rig
from gpu_worker.service import run_until_signalled
from pool.demo.falsify import Falsifier

FALSIFIED = "falsified"  # the log event that tells how much was falsified so far

_log = structlog.get_logger("pool.demo.cheat")


class LyingEngine(Engine):
    """An engine of which one row in five is not what the inner one computed."""

    def __init__(self, inner: Engine) -> None:
        self.width = inner.width
        self.dtype = inner.dtype
        self._inner = inner
        self._falsifier = Falsifier()

    def run(
        self,
        operation: str,
        lengths: NDArray[np.uint32],
        tokens: NDArray[np.uint32],
        rows_per_chunk: int,
    ) -> Iterator[Chunk]:
        """Compute rows, in order; see ``Engine.run``."""
        return self._told(self._inner.run(operation, lengths, tokens, rows_per_chunk))

    def close(self) -> None:
        """Free what the inner engine holds."""
        self._inner.close()

    def _told(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            values = self._falsifier.falsify(chunk.values)
            _log.info(FALSIFIED, rows=self._falsifier.rows, falsified=self._falsifier.falsified)
            yield Chunk(chunk.first_row, values, chunk.failed)


def lying_factory(
    manifest: Mapping[str, Any], files: Mapping[str, Path], *, backend: str, threads: int | None
) -> Engine:
    """``load_engine``, with the lie around it."""
    return LyingEngine(load_engine(manifest, files, backend=backend, threads=threads))


@click.command()
@click.option("--pool", "pool_url", required=True)
@click.option("--user", required=True)
@click.option("--token-file", required=True, type=click.Path(path_type=Path))
@click.option("--cache", required=True, type=click.Path(path_type=Path))
@click.option("--threads", type=int, default=1)
def main(pool_url: str, user: str, token_file: Path, cache: Path, threads: int) -> None:
    """Connect a rig that lies."""
    configure_logs("info", None)
    config = RigConfig(
        pools=(parse_pool(pool_url),),
        user=user,
        token=token_file.read_text(encoding="utf-8").strip(),
        cache=cache,
        backend="numpy",
        threads=threads,
        drain=1.0,
    )
    trio.run(run_until_signalled, Rig(config, engine_factory=lying_factory))


if __name__ == "__main__":
    main()

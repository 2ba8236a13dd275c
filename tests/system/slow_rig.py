"""A rig for tests: the real client, with an engine that takes a given time for each row."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
import trio

from gpu_worker.config import RigConfig, parse_pool
from gpu_worker.engine import Chunk, Engine, load_engine
from gpu_worker.rig import Rig


class SlowEngine(Engine):
    """Does what ``inner`` does, at ``rows_per_second``."""

    def __init__(self, inner: Engine, rows_per_second: float) -> None:
        self._inner = inner
        self._rows_per_second = rows_per_second
        self.width = inner.width
        self.dtype = inner.dtype

    def run(
        self, operation: str, lengths: Any, tokens: Any, rows_per_chunk: int
    ) -> Iterator[Chunk]:
        few = max(1, min(rows_per_chunk, int(self._rows_per_second / 10)))
        for chunk in self._inner.run(operation, lengths, tokens, few):
            time.sleep(len(chunk.values) / self._rows_per_second)
            yield chunk

    def close(self) -> None:
        self._inner.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--rows-per-second", type=float, required=True)
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )

    def factory(
        manifest: dict[str, Any],
        files: Mapping[str, Path],
        *,
        backend: str,
        threads: int | None,
    ) -> Engine:
        return SlowEngine(
            load_engine(manifest, files, backend=backend, threads=threads),
            options.rows_per_second,
        )

    config = RigConfig(
        pools=(parse_pool(options.pool),),
        user=options.user,
        token=options.token_file.read_text().strip(),
        cache=options.cache,
        first_backoff=0.1,
        longest_backoff=0.5,
    )
    trio.run(Rig(config, engine_factory=factory).run)


if __name__ == "__main__":
    main()

"""The engine: rows of tokens to results that are the same bits on every machine.

``docs/EXACT.md`` defines the arithmetic. The engine imports nothing else of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gpu_worker.engine.errors import DeviceLost, EngineError, OutOfMemory
from gpu_worker.engine.interface import Chunk, Engine
from gpu_worker.engine.numerics import SUPPORTED
from gpu_worker.engine.tolerance import distance

__all__ = [
    "SUPPORTED_NUMERICS",
    "Chunk",
    "DeviceLost",
    "Engine",
    "EngineError",
    "OutOfMemory",
    "check_canaries",
    "check_golden",
    "distance",
    "load_engine",
    "quantise",
]

SUPPORTED_NUMERICS: Final = SUPPORTED
"""What ``quantise`` makes and ``load_engine`` computes; the first is the default. Results of the
last three agree within the manifest's tolerance only."""


def load_engine(
    manifest: Mapping[str, Any],
    files: Mapping[str, Path],
    *,
    backend: str = "numpy",
    threads: int | None = None,
    device: int = 0,
) -> Engine:
    """Load a model.

    ``manifest`` is the parsed JSON of a model's manifest; ``files`` maps the names of its files
    of role ``engine`` to where they lie. ``backend`` is ``numpy``, ``cupy`` (a CUDA device, of
    number ``device``) or ``auto`` (``cupy`` where that works); ``threads`` defaults to the number
    of processors, and a CUDA device has threads of its own. Raises ``EngineError`` for what is
    not supported and for files that do not match the manifest; their hashes are for the caller
    to check.
    """
    from gpu_worker.engine.loader import load

    return load(manifest, files, backend, threads, device)


def quantise(folder: Path, out: Path, *, numerics: str = "exact16") -> dict[str, Any]:
    """Quantise a model once, for everyone.

    ``folder`` is a model as sentence-transformers or transformers saves it, of a family that
    ``docs/EXACT.md`` lists in section 10. Writes ``out/weights.safetensors`` and returns the
    manifest's fields except ``files``. The same folder gives the same bytes on every machine.
    Raises ``EngineError`` for a model that is not supported, naming what is.
    """
    from gpu_worker.engine.registration import register

    return register(folder, out, numerics)


def check_canaries() -> None:
    """Check that this machine computes exactly; ``EngineError`` with the reason if not."""
    from gpu_worker.engine.canary import check_canaries as check

    check()


def check_golden(backend: str, device: int = 0) -> None:
    """Compute the golden vectors on a device and compare.

    ``backend`` is as in ``load_engine``. Raises ``EngineError`` that names the operation, or the
    tiny model, whose bits differ.
    """
    from gpu_worker.engine.backends import make_backend, resolve
    from gpu_worker.engine.golden.check import check

    kind = resolve(backend, device)
    where = f"device {device} ({kind})" if kind != "numpy" else "this processor"
    check(lambda numerics: make_backend(kind, numerics.name, device)(), where)

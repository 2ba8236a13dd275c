"""Whether this process can compute on a CUDA device."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from gpu_worker.engine.errors import EngineError

NO_CUPY: Final = (
    "CuPy is not installed: pip install 'inferpool[cuda12]' for drivers from 525 on, "
    "or 'inferpool[cuda13]' from 580 on"
)


def check_available(device: int) -> None:
    """Raise ``EngineError``, with the remedy, if CUDA device ``device`` cannot be used."""
    if find_spec("cupy") is None:
        raise EngineError(f"backend cupy: {NO_CUPY}")
    try:
        from gpu_worker.engine.cuda.cupydevice import check_device
    except ImportError as error:
        raise EngineError(
            f"backend cupy: CuPy cannot be loaded ({error}); install it with the toolkit's "
            "libraries: pip install 'inferpool[cuda12]'"
        ) from error
    check_device(device)

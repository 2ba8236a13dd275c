"""How our functions are compiled by numba, and where the machine code is kept.

Compiling takes a minute on a small machine, so the code is kept in a folder of the user's caches,
one for each state of the sources: numba itself would not notice that a constant changed in a
module that a compiled function takes it from. Where no such folder can be written (a read-only
home), every process compiles for itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

SOURCES: Final = (
    "compiled.py", "kernels_float.py", "kernels_numba.py", "numerics.py", "ops.py",
    "polynomials.py",
)  # fmt: skip
"""What compiled functions are made of."""

_Function = Callable[..., Any]


def compiled(
    fastmath: bool | Collection[str] = False, inline: bool = False
) -> Callable[[_Function], _Function]:
    """Decorate a function to be compiled on its first call with each kind of arguments.

    It runs without Python's lock, divides by zero as NumPy does, and fuses or reassociates
    nothing but what ``fastmath`` allows.
    """
    fast = set(fastmath) if isinstance(fastmath, Collection) else fastmath
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": fast,
        "boundscheck": False,
    }
    if inline:
        options["inline"] = "always"
    folder = code_folder()

    def decorate(function: _Function) -> _Function:
        with _keeping_in(folder) as kept:
            made: _Function = numba.njit(cache=kept, **options)(function)
        return made

    return decorate


def code_folder() -> Path | None:
    """Where machine code is kept: made if need be; None where there is no such place.

    ``$NUMBA_CACHE_DIR``, or ``inferpool/compiled`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Code
    from it is run as it is found, so a folder that others may write to is not used.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    try:
        base = Path(given) if given else _user_caches() / "inferpool" / "compiled"
        folder = base / _digest_of_sources()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return None
    if os.name == "posix" and (state.st_uid != os.geteuid() or state.st_mode & 0o022):
        return None
    return folder if os.access(folder, os.W_OK) else None


def _user_caches() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is invalid and must be ignored.
    return Path(base) if base.startswith("/") else Path.home() / ".cache"


def _digest_of_sources() -> str:
    """Names the state of the sources, so that changed ones are compiled again."""
    here = Path(__file__).parent
    return sha256(b"".join((here / name).read_bytes() for name in SOURCES)).hexdigest()[:16]


@contextmanager
def _keeping_in(folder: Path | None) -> Iterator[bool]:
    """Have numba keep what is decorated inside; whether it does."""
    config: Any = numba.config
    before = config.CACHE_DIR
    if folder is not None:
        config.CACHE_DIR = str(folder)
    try:
        yield folder is not None
    finally:
        config.CACHE_DIR = before


@intrinsic
def bits_of(context: Any, x: Any) -> Any:
    """The bits of a float32 as int32, in compiled functions."""
    return types.int32(types.float32), lambda context, builder, signature, given: builder.bitcast(
        given[0], ir.IntType(32)
    )


@intrinsic
def float_of(context: Any, bits: Any) -> Any:
    """The float32 that an int32's bits are, in compiled functions."""
    return types.float32(types.int32), lambda context, builder, signature, given: builder.bitcast(
        given[0], ir.FloatType()
    )


@intrinsic
def bits_of_double(context: Any, x: Any) -> Any:
    """The bits of a float64 as int64, in compiled functions."""
    return types.int64(types.float64), lambda context, builder, signature, given: builder.bitcast(
        given[0], ir.IntType(64)
    )

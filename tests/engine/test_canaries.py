"""The engine notices a thread or a BLAS that would give other bits."""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bert import packed

from gpu_worker.engine import Engine, EngineError, canary, check_canaries


def test_this_machine_passes() -> None:
    check_canaries()


@pytest.fixture
def set_control_word() -> Iterator[Callable[[int], None]]:
    """Write the SSE control word of the calling thread, as a careless library does."""
    if platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux":
        pytest.skip("the control word is x86's, and the code is for Linux")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("0fae17c3"))  # ldmxcsr [rdi]; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    load = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))(address)

    def write(word: int) -> None:
        load(ctypes.byref(ctypes.c_uint32(word)))

    yield write
    write(0x1F80)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0x1F80 | 0x8000, "flush-to-zero is on"),
        (0x1F80 | 0x0040, "denormals-are-zero is on"),
        (0x1F80 | 0x2000, "does not round to nearest"),
        (0x1F80 | 0x4000, "does not round to nearest"),
        (0x1F80 | 0x6000, "does not round to nearest"),
    ],
)
def test_a_changed_floating_point_mode_is_found(
    set_control_word: Callable[[int], None], word: int, text: str
) -> None:
    """Flush to zero, denormals are zero, and rounding down, up and to zero."""
    set_control_word(word)
    try:
        with pytest.raises(EngineError, match=text):
            canary.check_float_unit()
    finally:
        set_control_word(0x1F80)
    canary.check_float_unit()


def test_a_worker_thread_is_checked_before_every_micro_batch(
    open_engine: Callable[..., Engine],
    tiny: Path,
    set_control_word: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library may change a thread at any time, also after the engine was loaded."""
    engine: Any = open_engine(tiny, threads=1)
    assert len(list(engine.run("embed", *packed([[1, 2]]), 1))) == 1
    engine._pool.submit(set_control_word, 0x1F80 | 0x8000).result()

    with pytest.raises(EngineError, match="flush-to-zero is on in this thread"):
        list(engine.run("embed", *packed([[1, 2]]), 1))
    engine._pool.submit(set_control_word, 0x1F80).result()
    assert len(list(engine.run("embed", *packed([[1, 2]]), 1))) == 1


def test_a_blas_that_is_not_exact_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that keeps 46 bits, as an emulated float64 would, is refused."""
    real = np.matmul

    def lossy(a: Any, b: Any, **options: Any) -> Any:
        product = real(a, b, **options)
        if product.dtype != np.float64:
            return product
        return np.round(product / 4) * 4

    monkeypatch.setattr(np, "matmul", lossy)
    canary.check_blas.cache_clear()
    try:
        with pytest.raises(EngineError, match="BLAS does not multiply float64 integers exactly"):
            canary.check_blas()
    finally:
        monkeypatch.undo()
        canary.check_blas.cache_clear()
    canary.check_blas()

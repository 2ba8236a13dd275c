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


def rounding(product: Any) -> Any:
    """A product that loses its last two bits, as emulated float64 does."""
    return np.round(product / 4) * 4 if product.dtype == np.float64 else product


def one_entry(product: Any) -> Any:
    """A fast algorithm that is wrong once, in large products only."""
    if product.dtype == np.float32 and product.size > 10_000:
        product[17, 5] += 2
    return product


@pytest.mark.parametrize(("damage", "kind"), [(rounding, "float64"), (one_entry, "float32")])
def test_a_blas_that_is_not_exact_is_found(
    monkeypatch: pytest.MonkeyPatch, damage: Callable[[Any], Any], kind: str
) -> None:
    real = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b: damage(real(a, b)))
    canary.check_blas.cache_clear()
    try:
        with pytest.raises(EngineError, match=f"BLAS does not multiply {kind} integers exactly"):
            canary.check_blas()
    finally:
        monkeypatch.undo()
        canary.check_blas.cache_clear()
    canary.check_blas()

"""The emulator sees what is wrong with a kernel: each of these kernels breaks one rule."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostdevice import EMULATOR, KernelError, MakeDevice, build

NEIGHBOUR = """
    int* shared = reinterpret_cast<int*>(shared_memory());
    shared[threadIdx.x] = threadIdx.x;
    BARRIER
    out[threadIdx.x] = shared[(threadIdx.x + 1) % 64];
"""
COPY = """
    static const int __attribute__((aligned(16))) source[4] = {7, 7, 7, 7};
    int* shared = reinterpret_cast<int*>(shared_memory());
    begin_copy(shared + 4 * threadIdx.x, source);
    close_copies();
    wait_for_copies<OPEN>();
    out[threadIdx.x] = shared[4 * threadIdx.x];
"""
PROBES = {
    "no_barrier": NEIGHBOUR.replace("BARRIER", ""),
    "barrier": NEIGHBOUR.replace("BARRIER", "__syncthreads();"),
    "different": """
    unsigned rows[4];
    if (threadIdx.x % 2) __shfl_xor_sync(0xffffffffu, 1, 1);
    else load_matrices(rows, shared_memory());
    """,
    "absent": "if (threadIdx.x != 3) out[0] = __shfl_xor_sync(0xffffffffu, 1, 1);",
    "deserter": "if (threadIdx.x < 40) __syncthreads();",
    "copy_open": COPY.replace("OPEN", "1"),
    "copy_awaited": COPY.replace("OPEN", "0"),
    "shared_outside": "shared_memory()[1000 + threadIdx.x] = out[0];",
    "overflow": """
    int c[4] = {0x7fffffff, 0, 0, 0};
    const unsigned a[4] = {0x01010101u, 0, 0, 0}, b[2] = {0x01010101u, 0};
    multiply_add(c, a, b);
    """,
    "product": """
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const auto left = [](int row, int k) { return (row * 37 + k * 11) % 251 - 125; };
    const auto right = [](int k, int column) { return (k * 53 + column * 29) % 241 - 120; };
    unsigned a[4] = {}, b[2] = {};
    for (int i = 0; i < 4; i++) {
        for (int r = 0; r < 4; r++) {
            const int value = left(g + 8 * (r % 2), 4 * t + i + 16 * (r / 2));
            a[r] |= static_cast<unsigned>(value & 255) << (8 * i);
        }
        for (int r = 0; r < 2; r++) {
            const int value = right(4 * t + i + 16 * r, g);
            b[r] |= static_cast<unsigned>(value & 255) << (8 * i);
        }
    }
    int c[4] = {1, 2, 3, 4};
    multiply_add(c, a, b);
    int wrong = 0;
    for (int i = 0; i < 4; i++) {
        int wanted = i + 1;
        for (int k = 0; k < 32; k++) {
            wanted += left(g + 8 * (i / 2), k) * right(k, 2 * t + i % 2);
        }
        wrong += wanted != c[i];
    }
    out[threadIdx.x] = wrong;
    """,
}
"""{name: the body of a kernel for a block of 64 threads that writes to ``out`` [64]}"""

Probe = Callable[..., str]


@pytest.fixture(scope="module")
def probe(make_device: MakeDevice, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """``probe(name)`` runs one: what came into ``out``, or the complaint."""
    text = (EMULATOR / "instructions.cuh").read_text() + "".join(
        f'extern "C" __global__ void {name}(int* out) {{\n{body}\n}}\n'
        for name, body in PROBES.items()
    )
    folder: Path = tmp_path_factory.mktemp("probes")
    library = build(text, list(PROBES), folder)

    def run(name: str, *, backward: bool = False) -> str:
        out = np.zeros(64, np.int32)
        slots = np.array([out.ctypes.data], np.uint64)
        words: bytes | None = getattr(library, f"run_{name}")(
            slots.ctypes.data_as(ctypes.c_void_p), 1, 1, 64, 1024, int(backward)
        )
        return words.decode() if words else ",".join(map(str, out))

    return run


def test_a_missing_barrier_shows_by_the_order_of_threads(probe: Probe) -> None:
    assert probe("no_barrier") != probe("no_barrier", backward=True)
    assert probe("barrier") == probe("barrier", backward=True)


def test_lanes_at_different_instructions_are_refused(probe: Probe) -> None:
    assert "different instructions" in probe("different")


def test_lanes_that_never_come_are_refused(probe: Probe) -> None:
    assert "wait for each other" in probe("absent")


def test_a_thread_that_misses_a_barrier_is_refused(probe: Probe) -> None:
    assert "wait for its block" in probe("deserter")


def test_after_a_refusal_kernels_run_again(probe: Probe) -> None:
    wanted = probe("barrier")
    probe("absent")

    assert probe("barrier") == wanted


def test_a_copy_that_is_not_waited_for_has_not_arrived(probe: Probe) -> None:
    sevens = ",".join(["7"] * 64)

    assert probe("copy_open") != sevens
    assert probe("copy_awaited") == sevens


def test_writing_beyond_shared_memory_is_refused(probe: Probe) -> None:
    assert "shared memory" in probe("shared_outside")


def test_an_int32_sum_that_overflows_is_refused(probe: Probe) -> None:
    assert "overflows" in probe("overflow")


def test_a_product_of_the_whole_warp(probe: Probe) -> None:
    """Fragments as the documentation lays them out, against a plain product."""
    assert probe("product") == ",".join(["0"] * 64)


def test_writing_beyond_an_array_is_refused(make_device: MakeDevice) -> None:
    device = make_device()
    x, y = device.put(np.zeros(8, np.float32)), device.empty((7,), np.float32)

    with pytest.raises(KernelError, match="outside an array"):
        device.launch("activate", (1, 1), 32, (x, 8, 0, y))

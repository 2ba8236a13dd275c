"""The kernels, run on the host, give every golden vector: the whole of CudaOps, bit by bit."""

from __future__ import annotations

import pytest
from hostdevice import MakeDevice

from gpu_worker.engine.cuda.ops import CudaOps
from gpu_worker.engine.golden.cases import CASES, Case
from gpu_worker.engine.golden.check import differences
from gpu_worker.engine.numerics import EXACT, Exact

QUICK = [case for case in CASES if not case.slow]
OF_PRODUCTS = [case for case in QUICK if case.name.startswith(("dense", "blocks", "quantise"))]
OTHERS = [case for case in QUICK if case not in OF_PRODUCTS]


def wrong(make_device: MakeDevice, case: Case, numerics: str, **options: object) -> list[str]:
    """The named values of a case that differ; ``fused_depth`` and ``deepest`` are CudaOps'."""
    own = {name: options.pop(name) for name in ("fused_depth", "deepest") if name in options}
    device = make_device(**options)

    def make_ops(kind: Exact) -> CudaOps:
        return CudaOps(kind, device, **own)  # type: ignore[arg-type]

    return differences(case, make_ops, numerics)


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_golden_vectors(make_device: MakeDevice, case: Case) -> None:
    assert not wrong(make_device, case, "exact16")


@pytest.mark.parametrize("numerics", ["exact13", "exact8w", "exact8"])
@pytest.mark.parametrize(
    "case",
    [*OF_PRODUCTS, *(case for case in OTHERS if case.name in ("model.bert mean", "pooling"))],
    ids=lambda case: case.name,
)
def test_golden_vectors_in_the_other_numerics(
    make_device: MakeDevice, case: Case, numerics: str
) -> None:
    """Where their integers differ: products, and a whole model."""
    assert not wrong(make_device, case, numerics)


@pytest.mark.long
@pytest.mark.parametrize("numerics", list(EXACT))
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_golden_vectors_everywhere(
    make_device: MakeDevice, case: Case, numerics: str, backward: bool
) -> None:
    assert not wrong(make_device, case, numerics, backward=backward)


@pytest.mark.parametrize("numerics", list(EXACT))
@pytest.mark.parametrize("case", OF_PRODUCTS, ids=lambda case: case.name)
@pytest.mark.parametrize(
    ("fused_depth", "deepest"), [(1 << 20, 1 << 20), (0, 1 << 20), (0, 192)],
    ids=["fused", "straight", "straight in parts"],
)  # fmt: skip
def test_all_paths_of_products_give_the_same(
    make_device: MakeDevice, case: Case, numerics: str, fused_depth: int, deepest: int
) -> None:
    """The fused kernel at any depth, the library's products, and those cut into parts."""
    assert not wrong(make_device, case, numerics, fused_depth=fused_depth, deepest=deepest)


@pytest.mark.parametrize(
    "name",
    ["dense.1100", "blocks", "norms", "attention.one head", "pooling", "model.modernbert score"],
)
def test_the_order_of_threads_and_blocks_does_not_matter(
    make_device: MakeDevice, name: str
) -> None:
    """A missing barrier shows in one of the two orders."""
    case = next(case for case in QUICK if case.name == name)

    assert not wrong(make_device, case, "exact16", backward=True, fused_depth=1 << 20)


@pytest.mark.parametrize("name", ["dense.1100", "attention.window"])
def test_golden_vectors_as_older_tensor_cores_multiply(make_device: MakeDevice, name: str) -> None:
    """sm_75 has products of 8 x 8 x 16 only, and no asynchronous copies."""
    case = next(case for case in QUICK if case.name == name)

    device = {"defines": ("EMULATE_SM75",), "fused_depth": 1 << 20}

    assert not wrong(make_device, case, "exact16", **device)


@pytest.mark.parametrize("name", ["attention", "attention.window", "attention.one head"])
def test_long_rows_compute_scores_in_each_pass(
    make_device: MakeDevice, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As rows do whose scores do not fit into shared memory."""
    monkeypatch.setattr("gpu_worker.engine.cuda.ops.STORED_GROUPS", 0)
    case = next(case for case in QUICK if case.name == name)

    assert not wrong(make_device, case, "exact16")


@pytest.mark.long
def test_a_long_row_with_a_sink(make_device: MakeDevice) -> None:
    case = next(case for case in CASES if case.name == "attention.sink 4096")

    assert not wrong(make_device, case, "exact16")

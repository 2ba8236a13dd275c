"""Which devices a rig uses: options, and what the probe finds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gpu_worker.devices.choice import DeviceSpec, choose_devices
from gpu_worker.devices.probe import Gpu, look, read_answer


def names(specs: tuple[DeviceSpec, ...]) -> list[str]:
    return [spec.name for spec in specs]


@pytest.mark.parametrize("devices", [None, "cpu"])
def test_a_processor_alone_computes_in_the_rigs_own_process(devices: str | None) -> None:
    """One device, no second process."""
    specs = choose_devices("numpy", devices, 3, lambda: pytest.fail("GPUs do not matter"))

    assert specs == (DeviceSpec(0, "cpu", "numpy", threads=3),)


def test_the_processor_can_be_divided_among_processes(monkeypatch) -> None:
    """Each gets its part of the processors, unless told otherwise."""
    monkeypatch.setattr("os.cpu_count", lambda: 9)

    specs = choose_devices("numpy", "cpu:4", None, list)

    assert names(specs) == ["cpu0", "cpu1", "cpu2", "cpu3"]
    assert {(spec.threads, spec.isolated) for spec in specs} == {(2, True)}
    assert {spec.threads for spec in choose_devices("numpy", "cpu:4", 5, list)} == {5}


@pytest.mark.parametrize("backend", ["cupy", "auto"])
def test_every_gpu_is_used_unless_some_are_named(backend: str) -> None:
    """Each in a process of its own; the index is the place in the pool's list."""
    specs = choose_devices(backend, None, None, lambda: [0, 1, 2])
    assert names(specs) == ["gpu0", "gpu1", "gpu2"]
    assert all(spec.isolated and spec.backend == "cupy" for spec in specs)

    some = choose_devices(backend, "2,0,2", None, lambda: [0, 1, 2])
    assert [(spec.index, spec.name, spec.ordinal) for spec in some] == [
        (0, "gpu2", 2),
        (1, "gpu0", 0),
    ]


def broken() -> list[int]:
    raise ValueError("CUDA is broken")


def test_auto_falls_back_to_the_processor_and_cupy_does_not() -> None:
    """Who asked for GPUs is told why there are none."""
    for gpus in (list, broken):
        assert names(choose_devices("auto", None, None, gpus)) == ["cpu"]
    with pytest.raises(ValueError, match="CUDA is broken"):
        choose_devices("cupy", None, None, broken)
    with pytest.raises(ValueError, match="no GPU was found; `inferpool doctor`"):
        choose_devices("cupy", None, None, list)
    with pytest.raises(ValueError, match="CUDA is broken"):
        choose_devices("auto", "0", None, broken)


@pytest.mark.parametrize(
    ("backend", "devices", "words"),
    [
        ("numpy", "0,1", "which the backend numpy does not use"),
        ("numpy", "all", "which the backend numpy does not use"),
        ("cupy", "cpu:2", "are no GPUs"),
        ("cupy", "3", "there is no GPU 3; present: 0, 1"),
        ("auto", "cpu:0", "must be all, GPU numbers"),
        ("auto", "0,,1", "must be all, GPU numbers"),
        ("auto", "", "must be all, GPU numbers"),
    ],
)
def test_a_wrong_choice_says_what_is_right(backend: str, devices: str, words: str) -> None:
    """The text names the value and what would do."""
    with pytest.raises(ValueError, match=words):
        choose_devices(backend, devices, None, lambda: [0, 1])


def fake_cupy() -> SimpleNamespace:
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 2,
        getDeviceProperties=lambda n: {
            "name": f"NVIDIA L{n}".encode(),
            "totalGlobalMem": (n + 1) << 30,
            "major": 8,
            "minor": 9,
        },
        deviceGetPCIBusId=lambda n: f"0000:0{n}:00.0",
        driverGetVersion=lambda: 12080,
        runtimeGetVersion=lambda: 12040,
    )
    return SimpleNamespace(__version__="14.0.1", cuda=SimpleNamespace(runtime=runtime))


def test_the_probe_tells_names_memory_and_bus_ids() -> None:
    """What CUDA's runtime says, in the order of its ordinals; it survives the pipe."""
    from dataclasses import asdict
    from json import dumps

    found = look(fake_cupy())

    assert found.gpus[1] == Gpu(1, "NVIDIA L1", 2 << 30, "0000:01:00.0", "8.9")
    assert (found.cupy, found.driver, found.runtime) == ("14.0.1", 12080, 12040)
    assert read_answer(dumps(asdict(found)).encode()) == found

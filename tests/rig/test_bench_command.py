"""``inferpool bench``: what it measures and how it says it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from click.testing import CliRunner
from scripted_pool import BLAKE2B_TEXT

from gpu_worker import bench as measuring
from gpu_worker.bench import Workload, holding, measure
from gpu_worker.commands.bench import bench
from gpu_worker.devices.choice import choose_devices
from gpu_worker.engine import EngineError
from gpu_worker.modelsource import find_model
from gpu_worker.nvml import GpuReading
from gpu_worker.samplemodel import write_sample_model


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_the_built_in_model_is_measured_in_the_numerics_asked_for() -> None:
    """Rows and tokens a second, as one JSON object."""
    result = CliRunner().invoke(
        bench,
        [
            *("--backend", "numpy", "--threads", "1", "--rows", "4", "--tokens", "8"),
            *("--numerics", "exact16", "--numerics", "exact8", "--seconds", "0", "--json"),
        ],
    )

    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["rows"], report["tokens_per_row"]) == (4, 8.0)
    assert [(one["numerics"], one["device"]) for one in report["results"]] == [
        ("exact16", "cpu"),
        ("exact8", "cpu"),
    ]
    for one in report["results"]:
        assert one["rows"] == 4
        assert one["rows_per_second"] == pytest.approx(4 / one["seconds"])
        assert one["tokens_per_second"] == pytest.approx(32 / one["seconds"])
        assert one["joules_per_1000_tokens"] is None


def test_for_people_there_is_a_table(tmp_path: Path) -> None:
    """With a folder of one's own; its name, the device, a line for each numerics."""
    folder = write_sample_model(tmp_path / "mine")
    result = CliRunner().invoke(
        bench,
        [
            *("--backend", "numpy", "--threads", "1", "--rows", "2", "--tokens", "4"),
            *("--numerics", "exact8", "--seconds", "0", "--model", str(folder)),
        ],
    )

    assert result.exit_code == 0, result.output
    assert f"{folder}: 2 rows of 4.0 tokens".replace("\n", "") in result.stdout.replace("\n", "")
    [line] = [line for line in result.stdout.splitlines() if "exact8" in line][:1]
    assert line.split()[:2] == ["cpu", "exact8"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "/nowhere"), "give a folder or package:MODULE"),
        (("--model", "package:no_such_package"), "not installed here"),
        (("--tokens", "100000"), "at most 512"),
        (("--backend", "cupy"), "CuPy is not installed"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(options: tuple[str, ...], words: str) -> None:
    """One line and status 1, no traceback."""
    result = CliRunner().invoke(
        bench, ["--rows", "2", "--seconds", "0", "--numerics", "exact8", *options]
    )

    assert result.exit_code == 1
    assert words in " ".join(result.output.split())


def test_numerics_that_the_devices_do_not_compute_are_left_out_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The float lane, on a GPU."""
    real = measuring.measure

    async def without_exact8(devices: Any, manifest: Any, *rest: Any, **options: Any) -> Any:
        if manifest["numerics"] == "exact8":
            raise EngineError("exact8 is not computed here")
        return await real(devices, manifest, *rest, **options)

    module = sys.modules["gpu_worker.commands.bench"]
    monkeypatch.setattr(module, "measure", without_exact8)
    monkeypatch.setattr(module, "SUPPORTED_NUMERICS", ("exact16", "exact8"))
    options = ["--backend", "numpy", "--rows", "2", "--tokens", "4", "--seconds", "0", "--json"]

    result = CliRunner().invoke(bench, options)
    assert result.exit_code == 0, result.output
    assert [one["numerics"] for one in json.loads(result.stdout)["results"]] == ["exact16"]
    assert "exact8 is left out: exact8 is not computed here" in result.stderr

    asked = CliRunner().invoke(bench, [*options, "--numerics", "exact8"])
    assert asked.exit_code == 1
    assert "exact8 is not computed here" in asked.output


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    """The engine's own words."""
    result = CliRunner().invoke(bench, ["--model", str(tmp_path), "--backend", "numpy"])

    assert result.exit_code == 1
    assert "config.json" in result.output


def test_a_package_that_carries_a_model_is_found(tmp_path, monkeypatch) -> None:
    """By its function, or by the files that it holds."""
    monkeypatch.syspath_prepend(tmp_path)
    inner = tmp_path / "carries_files" / "model"
    inner.mkdir(parents=True)
    (tmp_path / "carries_files" / "__init__.py").touch()
    (inner / "config.json").touch()
    (inner / "model.safetensors").touch()
    (tmp_path / "carries_function.py").write_text("def get_model_path():\n    return '/m'\n")
    (tmp_path / "carries_nothing.py").touch()

    assert find_model("package:carries_files") == inner
    assert find_model("package:carries_function") == Path("/m")
    with pytest.raises(ValueError, match="holds no folder"):
        find_model("package:carries_nothing")


def test_the_sample_model_is_the_same_for_one_seed(tmp_path: Path) -> None:
    """So that two measurements compare."""
    one, two, other = (
        write_sample_model(tmp_path / name, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, two, other)]

    assert weights[0] == weights[1] != weights[2]


def test_random_rows_are_as_a_share_is() -> None:
    """The longest first, within the model's limits, and the same every time."""
    work = Workload.random(100, max_tokens=64, vocabulary=50)

    assert work.lengths.dtype == work.tokens.dtype == np.uint32
    assert (np.diff(work.lengths.astype(int)) <= 0).all()
    assert 3 <= work.lengths.min() < work.lengths.max() <= 64
    assert len(work.tokens) == work.lengths.sum()
    assert work.tokens.max() < 50
    assert (Workload.random(100, max_tokens=64, vocabulary=50).tokens == work.tokens).all()


class Meter:
    """Stands in for NVML: 50 joules between any two readings."""

    def __init__(self) -> None:
        self.joules = 1000.0

    def read(self, pci: str) -> GpuReading:
        self.joules += 50.0
        return GpuReading(power=1.0, energy=self.joules)

    def close(self) -> None:
        pass


async def test_energy_is_told_where_the_driver_tells_it(monkeypatch) -> None:
    """Joules for 1,000 tokens, of the passes that were timed."""
    monkeypatch.setattr(measuring, "open_nvml", Meter)
    specs = choose_devices("numpy", "cpu", 1, list)
    work = Workload(np.full(10, 10, np.uint32), np.zeros(100, np.uint32))
    async with holding(specs) as [device]:
        device.telemetry.pci = "0000:1B:00.0"
        [one] = await measure([device], json.loads(BLAKE2B_TEXT), {}, work, seconds=0)

    assert one.joules_per_1000_tokens is not None
    spent = one.joules_per_1000_tokens * one.tokens / 1000
    assert spent % 50 == pytest.approx(0)
    assert 50 <= spent <= 100  # one reading after the passes, perhaps one beside them


async def test_several_devices_are_measured_at_once() -> None:
    """Each has its own figures; processes are started and ended."""
    specs = choose_devices("numpy", "cpu:2", 1, list)
    work = Workload(np.full(10, 10, np.uint32), np.zeros(100, np.uint32))
    async with holding(specs) as devices:
        found = await measure(devices, json.loads(BLAKE2B_TEXT), {}, work, seconds=0)

    assert [one.device for one in found] == ["cpu0", "cpu1"]
    assert all(one.rows == 10 for one in found)

"""Kernels on the host, compiled once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostdevice import HOW_TO_GET_A_COMPILER, HostDevice, MakeDevice, compiler


@pytest.fixture(scope="session")
def make_device(tmp_path_factory: pytest.TempPathFactory) -> MakeDevice:
    """``make_device(**options)``: see ``HostDevice``."""
    if not compiler():
        pytest.skip(HOW_TO_GET_A_COMPILER)
    folder: Path = tmp_path_factory.mktemp("kernels")

    def make(**options: object) -> HostDevice:
        return HostDevice(folder, **options)  # type: ignore[arg-type]

    return make

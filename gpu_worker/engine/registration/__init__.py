"""Registering a model: its checkpoint becomes a weights file and a manifest's fields, once.

The same folder gives the same bytes on every machine. ``families`` says which models there are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_worker.engine.calibration import calibrate
from gpu_worker.engine.encoderconfig import MAX_TOKENS, EncoderConfig, read_config
from gpu_worker.engine.loader import WEIGHTS_FILE
from gpu_worker.engine.numerics import FLOAT, check_numerics
from gpu_worker.engine.registration.checkpoint import Checkpoint
from gpu_worker.engine.registration.families import find_family
from gpu_worker.engine.registration.family import Family
from gpu_worker.engine.registration.folder import Folder, read_folder
from gpu_worker.engine.registration.heads import read_labels, read_probability
from gpu_worker.engine.registration.weights import collect
from gpu_worker.engine.tensors import write_tensors

__all__ = ["register"]


def register(folder: Path, out: Path, numerics: str) -> dict[str, Any]:
    """See ``gpu_worker.engine.quantise``."""
    check_numerics(numerics)
    found = read_folder(folder)
    family = find_family(found.config)
    vocabulary = found.config.integer("vocab_size")
    labels = read_labels(found.config) if found.classifier else ()
    config = _read_config(family, found, labels)
    max_tokens = min(found.max_tokens or config.positions, config.positions, MAX_TOKENS)
    if family.architecture == "modernbert":
        config = replace(config, positions=max_tokens)  # rows of the tables that are made here
    checkpoint = Checkpoint(found.transformer)
    tensors = collect(family, found, config, vocabulary, checkpoint, numerics)
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / WEIGHTS_FILE, tensors)
    per_token, per_pair = config.work(family.architecture)
    fields: dict[str, Any] = {
        "architecture": family.architecture,
        "operations": [config.operation],
        "numerics": numerics,
        "width": config.width,
        "dtype": "<f4",
        "max_tokens": max_tokens,
        "vocabulary": vocabulary,
        "macs_per_token": per_token,
        "macs_per_pair": per_pair,
        "config": config.fields(),
    }
    if numerics in FLOAT:
        fields["tolerance"] = calibrate(fields, out / WEIGHTS_FILE)
    if config.operation == "classify":
        fields["labels"] = list(labels)
    if found.prompts:
        fields["prompts"] = found.prompts
        fields["default_prompt"] = found.default_prompt
    return fields


def _read_config(family: Family, folder: Folder, labels: tuple[str, ...]) -> EncoderConfig:
    values = family.encoder(folder.config)
    if folder.classifier:
        values |= family.head(folder)
        values |= {
            "labels": len(labels),
            "probability": read_probability(folder.config, len(labels)),
        }
    else:
        values |= {"pooling": folder.pooling, "normalise": folder.normalise}
    return read_config(values)

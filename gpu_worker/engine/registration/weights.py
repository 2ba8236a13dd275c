"""Collecting the tensors of a weights file from a checkpoint, under our names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.layers import shapes
from gpu_worker.engine.registration.checkpoint import Checkpoint
from gpu_worker.engine.registration.family import Family
from gpu_worker.engine.registration.folder import Folder
from gpu_worker.engine.registration.storage import store_dense

F32 = NDArray[np.float32]


def collect(
    family: Family,
    folder: Folder,
    config: EncoderConfig,
    vocabulary: int,
    checkpoint: Checkpoint,
    numerics: str,
) -> dict[str, NDArray[Any]]:
    """Every tensor that ``layers.shapes`` lists, as ``numerics`` stores it."""
    names = family.names
    prefix = names.prefix if f"{names.prefix}{names.word}.weight" in checkpoint else ""
    wanted = shapes(family.architecture, config, vocabulary)
    tensors: dict[str, NDArray[Any]] = {
        "embeddings.word": checkpoint.read(
            f"{prefix}{names.word}.weight", wanted.tables["embeddings.word"]
        ),
        **family.tables(checkpoint, prefix, folder.config, config),
    }
    for name in wanted.norms:
        their = _theirs(family, prefix, name)[0]
        tensors[f"{name}.gain"] = checkpoint.read_norm(f"{their}.weight", config.hidden)
        tensors[f"{name}.bias"] = (
            checkpoint.read_norm(f"{their}.bias", config.hidden)
            if family.has_bias(folder.config, name)
            else np.zeros(config.hidden, np.float32)
        )
    for name, (out, width) in wanted.dense.items():
        theirs = _theirs(family, prefix, name)
        rows = out // len(theirs)
        weight = _stack(checkpoint, [f"{their}.weight" for their in theirs], (rows, width))
        bias = (
            _stack(checkpoint, [f"{their}.bias" for their in theirs], (rows,))
            if family.has_bias(folder.config, name)
            else np.zeros(out, np.float32)
        )
        tensors |= store_dense(name, weight, bias, numerics)
    return tensors


def _theirs(family: Family, prefix: str, name: str) -> tuple[str, ...]:
    """The checkpoint's names of our dense layer or norm ``name``."""
    names = family.names
    if name in names.head:
        return (names.head[name],)
    if name in names.norms:
        return (prefix + names.norms[name],)
    _, index, own = name.split(".")
    layer = prefix + names.layer.format(index)
    if own in names.layer_norms:
        return (layer + names.layer_norms[own],)
    return tuple(layer + their for their in names.dense[own])


def _stack(checkpoint: Checkpoint, names: Sequence[str], shape: tuple[int, ...]) -> F32:
    return np.concatenate([checkpoint.read(name, shape) for name in names])

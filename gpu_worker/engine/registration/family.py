"""What the registration needs to know about a family of models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.registration.checkpoint import Checkpoint
from gpu_worker.engine.registration.folder import Folder
from gpu_worker.engine.registration.settings import Settings

F32 = NDArray[np.float32]

ACTIVATIONS: Final = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""{transformers' name: ours}"""


@dataclass(frozen=True, slots=True)
class Names:
    """Where a family's checkpoints keep our tensors: names without ``.weight`` and ``.bias``."""

    prefix: str
    """Before the encoder's names in a checkpoint that has a head as well."""
    word: str
    layer: str
    """What a layer's names begin with; ``{}`` is its index."""
    dense: Mapping[str, tuple[str, ...]]
    """{ours: theirs} within a layer; several are stacked."""
    layer_norms: Mapping[str, str]
    """{ours: theirs} within a layer."""
    norms: Mapping[str, str]
    """{ours: theirs} outside of the layers."""
    head: Mapping[str, str]
    """{ours: theirs} of the dense layers and norms behind pooling; no prefix stands before them,
    unless written out."""


class Family(ABC):
    """A family of models: reads its config.json, and says what its tensors are called."""

    architecture: ClassVar[str]
    names: ClassVar[Names]

    @abstractmethod
    def encoder(self, config: Settings) -> dict[str, Any]:
        """The encoder's part of a manifest's ``config``; refuses by name what it cannot be."""

    @abstractmethod
    def head(self, folder: Folder) -> dict[str, Any]:
        """``head`` and ``pooling`` of a classifier, and what else follows from having a head."""

    @abstractmethod
    def tables(
        self, checkpoint: Checkpoint, prefix: str, settings: Settings, config: EncoderConfig
    ) -> dict[str, F32]:
        """The tables that hold positions. ``prefix`` goes before the encoder's names."""

    def has_bias(self, config: Settings, name: str) -> bool:
        """Whether our dense layer or norm ``name`` has a bias; a missing one is zeros."""
        return True


def read_activation(config: Settings, name: str) -> str:
    """Our name of the activation that config.json's field ``name`` asks for."""
    return ACTIVATIONS[config.choice(name, "gelu", tuple(ACTIVATIONS))]

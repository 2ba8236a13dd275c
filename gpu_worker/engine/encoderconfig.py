"""The parameters of an encoder as a manifest carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from gpu_worker.engine.errors import EngineError

ARCHITECTURES: Final = ("bert", "modernbert")
"""``bert``: norms after each block, positions in a table. ``modernbert``: norms before each
block, rotary positions, gated feed-forward blocks, local attention in most layers."""

ACTIVATIONS: Final = ("gelu", "gelu_tanh", "relu")
POOLINGS: Final = ("mean", "cls", "max")
HEADS: Final = ("none", "linear", "tanh", "relu", "gelu_norm")
"""What turns a row's pooled vector into logits: nothing (the vector is the result), one dense
layer, or two with this between them."""
PROBABILITIES: Final = ("none", "sigmoid", "softmax")
MAX_WIDTH: Final = 8192
"""Hidden size; keeps the integer sums of reductions inside int64."""
MAX_INTERMEDIATE: Final = 131_072
"""Depth of a product: 32639² · 2^17 < 2^47."""
MAX_TOKENS: Final = 32_768
"""Keys that one exact float64 sum holds: 8355711 · 32639 · 2^15 < 2^53."""
_INTEGERS: Final = {
    "layers": (1, 1024),
    "hidden": (1, MAX_WIDTH),
    "heads": (1, MAX_WIDTH),
    "intermediate": (1, MAX_INTERMEDIATE),
    "positions": (1, 1 << 20),
    "segments": (1, 2),
    "separator": (-1, (1 << 32) - 1),
    "labels": (0, 1 << 16),
    "window": (0, 1 << 20),
    "global_every": (1, 1024),
}
_CHOICES: Final = {
    "activation": ACTIVATIONS,
    "pooling": POOLINGS,
    "head": HEADS,
    "probability": PROBABILITIES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Shape of an encoder, and what is done with its last layer."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    positions: int
    norm_eps: float
    activation: str = "gelu"
    pooling: str = "mean"
    normalise: bool = False
    segments: int = 1
    """Rows of the position table: 2 where a pair's second text has vectors of its own."""
    separator: int = -1
    """The token after whose first occurrence segment 1 begins; -1 where ``segments`` is 1."""
    head: str = "none"
    labels: int = 0
    """Logits of a row; 0 without a head."""
    probability: str = "none"
    """How a reader of logits makes probabilities of them; no part of the arithmetic."""
    window: int = 0
    """``modernbert``: how far a token sees to each side in local layers; 0 for no limit."""
    global_every: int = 1
    """``modernbert``: layers whose index is a multiple of this see the whole row."""

    @property
    def width(self) -> int:
        """Values of a row's result."""
        return self.labels or self.hidden

    @property
    def operation(self) -> str:
        """What the model computes: ``embed``, ``score`` (one logit) or ``classify``."""
        if self.head == "none":
            return "embed"
        return "score" if self.labels == 1 else "classify"

    def is_global(self, layer: int) -> bool:
        """Whether attention of ``layer`` sees the whole row."""
        return self.window == 0 or layer % self.global_every == 0

    def work(self, architecture: str) -> tuple[int, int]:
        """Multiply-accumulates of a row: (for each token, for each pair of tokens).

        A local layer's pairs count with the token that sees them.
        """
        hidden, wide = self.hidden, self.intermediate
        dense = 4 * hidden * hidden + (3 if architecture == "modernbert" else 2) * hidden * wide
        whole = sum(self.is_global(layer) for layer in range(self.layers))
        local = (self.layers - whole) * 2 * hidden * (2 * self.window + 1)
        return self.layers * dense + local, 2 * hidden * whole

    def fields(self) -> dict[str, int | float | str | bool]:
        """What goes into a manifest's ``config``."""
        return asdict(self)


def read_config(config: Mapping[str, Any]) -> EncoderConfig:
    """Check a manifest's ``config``; ``EngineError`` names the field that is wrong."""
    values = {name: config[name] for name in _NAMES if name in config}
    odd = sorted(set(config) - set(_NAMES))
    if odd:
        raise EngineError(f"config.{odd[0]} is not known; known: {', '.join(_NAMES)}")
    for name in ("layers", "hidden", "heads", "intermediate", "positions", "norm_eps"):
        if name not in values:
            raise EngineError(f"config.{name} is missing")
    for name, (least, most) in _INTEGERS.items():
        value = values.get(name, least)
        if type(value) is not int or not least <= value <= most:
            raise EngineError(f"config.{name} is {value!r}; it must be from {least} to {most}")
    eps = values["norm_eps"]
    if not isinstance(eps, float) or not 1e-30 <= eps <= 1:
        raise EngineError(f"config.norm_eps is {eps!r}; it must be a float from 1e-30 to 1")
    for name, known in _CHOICES.items():
        if values.get(name, known[0]) not in known:
            raise EngineError(
                f"config.{name} {values[name]!r} is not supported; supported: {', '.join(known)}"
            )
    if not isinstance(values.get("normalise", False), bool):
        raise EngineError("config.normalise must be true or false")
    read = EncoderConfig(**values)
    if read.hidden % read.heads:
        raise EngineError("config.hidden must be a multiple of config.heads")
    if (read.head == "none") != (read.labels == 0):
        raise EngineError("config.labels must be 0 without a head and at least 1 with one")
    if (read.segments == 2) != (read.separator >= 0):
        raise EngineError("config.separator must name a token if config.segments is 2, or be -1")
    return read


_NAMES: Final = tuple(field.name for field in fields(EncoderConfig))

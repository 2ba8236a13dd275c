"""The parameters of a BERT encoder as a manifest carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from gpu_worker.engine.errors import EngineError

POOLINGS: Final = ("mean", "cls")
ACTIVATIONS: Final = ("gelu",)
MAX_WIDTH: Final = 8192
"""Hidden size; keeps the integer sums of reductions inside int64."""
MAX_INTERMEDIATE: Final = 131_072
"""Depth of a product: 32639² · 2^17 < 2^47."""
MAX_TOKENS: Final = 32_768
"""Keys that one exact float64 sum holds: 8355711 · 32639 · 2^15 < 2^53."""
_INTEGERS: Final = {
    "layers": 1024,
    "hidden": MAX_WIDTH,
    "heads": MAX_WIDTH,
    "intermediate": MAX_INTERMEDIATE,
    "positions": 1 << 20,
}


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Shape of the encoder, and what is done with its last layer."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    positions: int
    norm_eps: float
    activation: str
    pooling: str
    normalise: bool

    @property
    def macs_per_token(self) -> int:
        """Multiply-accumulates of the dense layers for one token."""
        hidden = self.hidden
        return self.layers * (4 * hidden * hidden + 2 * hidden * self.intermediate)

    @property
    def macs_per_pair(self) -> int:
        """Multiply-accumulates of attention for one pair of tokens."""
        return 2 * self.layers * self.hidden

    def fields(self) -> dict[str, int | float | str | bool]:
        """What goes into a manifest's ``config``."""
        return asdict(self)


def read_config(config: Mapping[str, Any]) -> BertConfig:
    """Check a manifest's ``config``; ``EngineError`` names the field that is wrong."""
    for name, largest in _INTEGERS.items():
        value = config.get(name)
        if type(value) is not int or not 1 <= value <= largest:
            raise EngineError(f"config.{name} is {value!r}; it must be from 1 to {largest}")
    if config["hidden"] % config["heads"]:
        raise EngineError("config.hidden must be a multiple of config.heads")
    eps = config.get("norm_eps")
    if not isinstance(eps, float) or not 1e-30 <= eps <= 1:
        raise EngineError(f"config.norm_eps is {eps!r}; it must be a float from 1e-30 to 1")
    for name, known in (("activation", ACTIVATIONS), ("pooling", POOLINGS)):
        if config.get(name) not in known:
            raise EngineError(
                f"config.{name} {config.get(name)!r} is not supported; supported: "
                + ", ".join(known)
            )
    if not isinstance(config.get("normalise"), bool):
        raise EngineError("config.normalise must be true or false")
    return BertConfig(**{name: config[name] for name in BertConfig.__slots__})

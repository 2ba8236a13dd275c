"""ModernBERT: norms before each block, rotary positions, local attention, gated blocks."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.registration.checkpoint import Checkpoint
from gpu_worker.engine.registration.family import F32, Family, Names, read_activation
from gpu_worker.engine.registration.folder import Folder
from gpu_worker.engine.registration.rope import rope_tables
from gpu_worker.engine.registration.settings import Settings

_GLOBAL: Final = "full_attention"
_LOCAL: Final = "sliding_attention"
_THETAS: Final = {
    _GLOBAL: ("global_rope_theta", 160_000.0),
    _LOCAL: ("local_rope_theta", 10_000.0),
}
"""{kind of layer: the name that transformers before 5 gave its base, its default}"""


class ModernBert(Family):
    """Biases are stored as zeros where a model has none, as all published ones."""

    architecture = "modernbert"
    names: ClassVar[Names] = Names(
        prefix="model.",
        word="embeddings.tok_embeddings",
        layer="layers.{}.",
        dense={
            "qkv": ("attn.Wqkv",),
            "attention_out": ("attn.Wo",),
            "up": ("mlp.Wi",),
            "down": ("mlp.Wo",),
        },
        layer_norms={"attention_norm": "attn_norm", "output_norm": "mlp_norm"},
        norms={"embeddings.norm": "embeddings.norm", "final_norm": "final_norm"},
        head={"head.dense": "head.dense", "head.norm": "head.norm", "head.out": "classifier"},
    )

    def encoder(self, config: Settings) -> dict[str, Any]:
        """See ``Family``."""
        hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
        if hidden % (2 * heads):
            raise EngineError(
                f"config.json's hidden_size {hidden} must be a multiple of twice its "
                f"num_attention_heads {heads}: rotary positions turn pairs of values"
            )
        layers = config.integer("num_hidden_layers")
        every, window = _read_pattern(config, layers)
        for kind in _THETAS:
            _read_theta(config, kind)  # refuses before any tensor is read
        return {
            "layers": layers,
            "hidden": hidden,
            "heads": heads,
            "intermediate": config.integer("intermediate_size"),
            "positions": config.integer("max_position_embeddings"),
            "norm_eps": config.number("norm_eps", 1e-5),
            "activation": read_activation(config, "hidden_activation"),
            "global_every": every,
            "window": window,
        }

    def head(self, folder: Folder) -> dict[str, Any]:
        """See ``Family``: dense layer, GELU and norm of the pooled vector, then the classifier."""
        config = folder.config
        config.choice("classifier_activation", "gelu", ("gelu",))
        pooling = config.choice("classifier_pooling", "cls", ("cls", "mean"))
        return {"head": "gelu_norm", "pooling": pooling}

    def tables(
        self, checkpoint: Checkpoint, prefix: str, settings: Settings, config: EncoderConfig
    ) -> dict[str, F32]:
        """See ``Family``: cosines and sines of the global layers and of the local ones."""
        tables: dict[str, F32] = {}
        for name, kind in (("global", _GLOBAL), ("local", _LOCAL)):
            if name == "global" or config.window:
                cos, sin = rope_tables(
                    _read_theta(settings, kind), config.hidden // config.heads, config.positions
                )
                tables |= {f"rope.{name}.cos": cos, f"rope.{name}.sin": sin}
        return tables

    def has_bias(self, config: Settings, name: str) -> bool:
        """See ``Family``: by config.json's flags; the classifier itself always has one."""
        if name.endswith("norm"):
            flag = "norm_bias"
        elif name == "head.out":
            return True
        elif name == "head.dense":
            flag = "classifier_bias"
        else:
            flag = "attention_bias" if name.endswith(("qkv", "attention_out")) else "mlp_bias"
        return bool(config.choice(flag, False, (False, True)))


def _read_pattern(config: Settings, layers: int) -> tuple[int, int]:
    """Every which layer is global, and how far the others see to each side; 0 for no limit."""
    kinds = config.get("layer_types")
    if kinds is None:
        every = config.integer("global_attn_every_n_layers", 3)
    else:
        every = _period(kinds, layers)
    if every == 1 or layers == 1:
        return 1, 0
    return every, config.integer("local_attention", 128, least=2) // 2


def _period(kinds: Any, layers: int) -> int:
    """The n of "every n-th layer is global"."""
    whole = [index for index, kind in enumerate(kinds) if kind == _GLOBAL]
    period = whole[1] if len(whole) > 1 else layers
    wanted = [_LOCAL if index % period else _GLOBAL for index in range(layers)]
    if list(kinds) != wanted:
        raise EngineError(
            "config.json's layer_types is not supported; supported: full_attention in every n-th "
            "layer from the first, sliding_attention in the others"
        )
    return period


def _read_theta(config: Settings, kind: str) -> float:
    """The base of the rotary frequencies of a kind of layer."""
    name, default = _THETAS[kind]
    config.refuse("rope_scaling", "rotary positions are taken as they are")
    new = config.table("rope_parameters").get(kind)
    if new is None:
        if kind == _LOCAL and name in config.names() and config.get(name) is None:
            return _read_theta(config, _GLOBAL)  # null meant "as in the global layers"
        return config.number(name, default)
    rope = Settings(config.path, new)
    rope.choice("rope_type", "default", ("default",))
    return rope.number("rope_theta", config.number(name, default))

"""DistilBERT: BERT's layers under other names, without token types."""

from __future__ import annotations

from typing import Any, ClassVar

from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.registration.checkpoint import Checkpoint
from gpu_worker.engine.registration.family import F32, Family, Names, read_activation
from gpu_worker.engine.registration.folder import Folder
from gpu_worker.engine.registration.settings import Settings


class DistilBert(Family):
    """Its layer norms have a fixed epsilon."""

    architecture = "bert"
    names: ClassVar[Names] = Names(
        prefix="distilbert.",
        word="embeddings.word_embeddings",
        layer="transformer.layer.{}.",
        dense={
            "qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
            "attention_out": ("attention.out_lin",),
            "up": ("ffn.lin1",),
            "down": ("ffn.lin2",),
        },
        layer_norms={"attention_norm": "sa_layer_norm", "output_norm": "output_layer_norm"},
        norms={"embeddings.norm": "embeddings.LayerNorm"},
        head={"head.dense": "pre_classifier", "head.out": "classifier"},
    )

    def encoder(self, config: Settings) -> dict[str, Any]:
        """See ``Family``."""
        return {
            "layers": config.integer("n_layers"),
            "hidden": config.integer("dim"),
            "heads": config.integer("n_heads"),
            "intermediate": config.integer("hidden_dim"),
            "positions": config.integer("max_position_embeddings"),
            "norm_eps": 1e-12,
            "activation": read_activation(config, "activation"),
        }

    def head(self, folder: Folder) -> dict[str, Any]:
        """See ``Family``: dense layer and ReLU of the first token, then the classifier."""
        return {"head": "relu", "pooling": "cls"}

    def tables(
        self, checkpoint: Checkpoint, prefix: str, settings: Settings, config: EncoderConfig
    ) -> dict[str, F32]:
        """See ``Family``."""
        name = f"{prefix}embeddings.position_embeddings.weight"
        return {
            "embeddings.position": checkpoint.read(name, (config.positions, config.hidden))[None]
        }

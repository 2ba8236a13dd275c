"""BERT, RoBERTa and XLM-RoBERTa."""

from __future__ import annotations

from typing import Any, ClassVar

from gpu_worker.engine.encoderconfig import EncoderConfig
from gpu_worker.engine.registration.checkpoint import Checkpoint
from gpu_worker.engine.registration.family import F32, Family, Names, read_activation
from gpu_worker.engine.registration.folder import Folder
from gpu_worker.engine.registration.segments import read_separator
from gpu_worker.engine.registration.settings import Settings


def _names(prefix: str, head: dict[str, str]) -> Names:
    return Names(
        prefix=prefix,
        word="embeddings.word_embeddings",
        layer="encoder.layer.{}.",
        dense={
            "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
            "attention_out": ("attention.output.dense",),
            "up": ("intermediate.dense",),
            "down": ("output.dense",),
        },
        layer_norms={
            "attention_norm": "attention.output.LayerNorm",
            "output_norm": "output.LayerNorm",
        },
        norms={"embeddings.norm": "embeddings.LayerNorm"},
        head=head,
    )


class Bert(Family):
    """Positions from 0; a pair's second text has vectors of its own in a cross-encoder."""

    architecture = "bert"
    names: ClassVar[Names] = _names(
        "bert.", {"head.dense": "bert.pooler.dense", "head.out": "classifier"}
    )

    def encoder(self, config: Settings) -> dict[str, Any]:
        """See ``Family``."""
        config.choice("position_embedding_type", "absolute", ("absolute",))
        for name in ("is_decoder", "add_cross_attention"):
            config.choice(name, False, (False,))
        return {
            "layers": config.integer("num_hidden_layers"),
            "hidden": config.integer("hidden_size"),
            "heads": config.integer("num_attention_heads"),
            "intermediate": config.integer("intermediate_size"),
            "positions": self.positions(config),
            "norm_eps": config.number("layer_norm_eps", 1e-12),
            "activation": read_activation(config, "hidden_act"),
        }

    def positions(self, config: Settings) -> int:
        """Positions that a row can use."""
        return config.integer("max_position_embeddings") - self.first_position(config)

    def first_position(self, config: Settings) -> int:
        """The entry of the position table that a row's first token takes."""
        return 0

    def head(self, folder: Folder) -> dict[str, Any]:
        """See ``Family``: the pooler's dense layer and tanh, then the classifier."""
        head: dict[str, Any] = {"head": "tanh", "pooling": "cls"}
        if folder.config.integer("type_vocab_size", 2) > 1:
            separator = read_separator(folder.transformer)
            if separator >= 0:
                head |= {"segments": 2, "separator": separator}
        return head

    def tables(
        self, checkpoint: Checkpoint, prefix: str, settings: Settings, config: EncoderConfig
    ) -> dict[str, F32]:
        """See ``Family``: position + token type, for each token type that rows can have."""
        width, first = config.hidden, self.first_position(settings)
        position = checkpoint.read(
            f"{prefix}embeddings.position_embeddings.weight", (first + config.positions, width)
        )
        kinds = settings.integer("type_vocab_size", 2)
        types = checkpoint.read(f"{prefix}embeddings.token_type_embeddings.weight", (kinds, width))
        return {"embeddings.position": position[first:] + types[: config.segments, None]}


class Roberta(Bert):
    """Positions begin behind the padding token's; every token is of type 0."""

    names: ClassVar[Names] = _names(
        "roberta.", {"head.dense": "classifier.dense", "head.out": "classifier.out_proj"}
    )

    def first_position(self, config: Settings) -> int:
        """Fairseq's way: one behind the padding token's id."""
        return config.integer("pad_token_id", 1, least=0) + 1

    def head(self, folder: Folder) -> dict[str, Any]:
        """See ``Family``: dense layer and tanh of the first token, then the output layer."""
        return {"head": "tanh", "pooling": "cls"}

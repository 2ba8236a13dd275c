"""The tiny models that are compared with transformers: configurations, weights, rows.

Weights and rows come from a seed by integer arithmetic (SplitMix64), so that vectors need to
store outputs only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gpu_worker.engine.golden.inputs import below, uniform

F32 = NDArray[np.float32]

POOLINGS = (("mean", True), ("mean", False), ("cls", True), ("max", False))
"""(pooling, whether an L2 normalisation follows) of the embedders."""
VECTORS = Path(__file__).with_name("vectors")
TOLERANCE = 2e-4
"""Largest difference of exact16, relative to the row's largest value."""


@dataclass(frozen=True)
class Model:
    """``settings`` go into the family's configuration class of transformers."""

    name: str
    family: str
    labels: int = 0
    """0 for an embedder, else the classifier's logits."""
    settings: Mapping[str, Any] = field(default_factory=dict)


MODELS = (
    Model("bert", "bert"),
    Model("bert-gelu-new", "bert", settings={"hidden_act": "gelu_new"}),
    Model("bert-relu", "bert", settings={"hidden_act": "relu"}),
    Model("bert-score", "bert", 1),
    Model("bert-classify", "bert", 3),
    Model("roberta", "roberta"),
    Model("roberta-classify", "roberta", 4),
    Model("xlm-roberta", "xlm-roberta"),
    Model("xlm-roberta-score", "xlm-roberta", 1),
    Model("distilbert", "distilbert"),
    Model("distilbert-classify", "distilbert", 2),
    Model("modernbert", "modernbert"),
    Model(
        "modernbert-biases",
        "modernbert",
        settings={
            "norm_bias": True, "attention_bias": True, "mlp_bias": True,
            "hidden_activation": "gelu_pytorch_tanh",
        },
    ),
    Model("modernbert-score", "modernbert", 1, {"classifier_pooling": "mean"}),
    Model(
        "modernbert-classify",
        "modernbert",
        5,
        {"classifier_pooling": "cls", "classifier_bias": True},
    ),
)  # fmt: skip

SEPARATOR = 3
"""The token that ends each text of a pair, in models and tokenizers here."""


def settings_of(model: Model, seed: int) -> dict[str, Any]:
    """What the configuration class of transformers takes; seed 0 is the vectors' shape."""
    random = Random(f"{model.name} {seed}")

    def draw(usual: int, *others: int) -> int:
        return random.choice((usual, *others)) if seed else usual

    heads, width = draw(3, 1, 2, 4), draw(16, 8, 12, 32)
    layers, wide = draw(3, 1, 2, 4), draw(96, 17, 64, 250)
    vocabulary, positions = draw(120, 60, 333), draw(72, 40, 150)
    eps = random.choice((1e-12, 1e-5)) if seed else 1e-12
    common: dict[str, Any] = {"vocab_size": vocabulary, "pad_token_id": 0}
    if model.family == "distilbert":
        shape = {
            "dim": heads * width, "n_heads": heads, "n_layers": layers, "hidden_dim": wide,
            "max_position_embeddings": positions,
        }  # fmt: skip
    else:
        shape = {
            "hidden_size": heads * width, "num_attention_heads": heads,
            "num_hidden_layers": layers, "intermediate_size": wide,
        }  # fmt: skip
    if model.family == "bert":
        common |= {"max_position_embeddings": positions, "layer_norm_eps": eps}
    elif model.family in ("roberta", "xlm-roberta"):
        common |= {
            "max_position_embeddings": positions + 2, "pad_token_id": 1, "layer_norm_eps": eps,
            "type_vocab_size": 1,
        }  # fmt: skip
    elif model.family == "modernbert":
        common |= {
            "max_position_embeddings": positions, "num_hidden_layers": layers + 2,
            "global_attn_every_n_layers": draw(3, 1, 2), "local_attention": draw(16, 6, 40),
            "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3,
        }  # fmt: skip
    labels: dict[str, Any] = {}
    if model.labels:
        labels = {"id2label": {index: f"label {index}" for index in range(model.labels)}}
    return shape | common | labels | dict(model.settings)


def longest_row(model: Model, seed: int) -> int:
    """Tokens of the longest row that the model takes."""
    positions: int = settings_of(model, seed)["max_position_embeddings"]
    return positions - 2 if model.family in ("roberta", "xlm-roberta") else positions


def fill(name: str, shape: Sequence[int], seed: int) -> F32:
    """A tensor of a checkpoint, by its name.

    Matrices have a standard deviation of 0.2 up to a depth of 32 and less beyond, as initialised
    models have: much larger ones make attention choose one key, and any rounding then shows.
    """
    own = crc32(f"{name} {seed}".encode())
    values = uniform(own, shape)
    if len(shape) == 1:
        is_gain = name.endswith("weight")
        return values * np.float32(0.5) + np.float32(1) if is_gain else values * np.float32(0.2)
    if "embeddings" in name:
        return values * np.float32(0.8)
    # ModernBERT's way: what is added to the unnormed residual begins smaller.
    spread = 0.35 / 2 if name.endswith("Wo.weight") else 0.35
    return values * np.float32(spread * sqrt(32 / max(32, shape[1])))


def rows_of(seed: int, vocabulary: int, longest: int) -> list[list[int]]:
    """Rows of many lengths, without padding tokens; each has a separator inside and at its end."""
    lengths = sorted({1, 2, 3, longest // 4, longest // 2, longest - 1, longest})
    rows = []
    for place, length in enumerate(lengths):
        row = (below(1000 * seed + place, length, vocabulary - 4) + np.uint32(4)).tolist()
        for end in (length // 2, length - 1):
            row[end] = SEPARATOR if length > 2 else row[end]
        rows.append(row)
    return rows


def packed(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Lengths and tokens as the engine takes them."""
    lengths = np.array([len(row) for row in rows], np.uint32)
    return lengths, np.array([token for row in rows for token in row], np.uint32)


def add_pooling(folder: Path, pooling: str, normalise: bool) -> None:
    """Lay the modules of sentence-transformers around a checkpoint."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    places = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": index, "name": str(index), "path": place, "type": f"sentence_transformers.{kind}"}
        for index, (kind, place) in enumerate(zip(kinds, places, strict=False))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))


def add_tokenizer(folder: Path, family: str) -> None:
    """A tokenizer.json that treats pairs as the family's do; words w0, w1, … from id 4 on."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    first = {"[UNK]": 0, "[PAD]": 1} if "roberta" in family else {"[PAD]": 0, "[UNK]": 1}
    words = first | {"[CLS]": 2, "[SEP]": SEPARATOR}
    words |= {f"w{index}": 4 + index for index in range(50)}
    tokenizer = Tokenizer(models.WordLevel(words, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pairs = {
        "bert": "[CLS] $A [SEP] $B:1 [SEP]:1",
        "roberta": "[CLS] $A [SEP] [SEP] $B [SEP]",
        "xlm-roberta": "[CLS] $A [SEP] [SEP] $B [SEP]",
    }
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=pairs.get(family, "[CLS] $A [SEP] $B [SEP]"),
        special_tokens=[("[CLS]", 2), ("[SEP]", SEPARATOR)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], seed: int
) -> Path:
    """A checkpoint with the tensors that ``fill`` makes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: fill(name, shape, seed) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


def variants(model: Model) -> Sequence[tuple[str, bool]]:
    """What stands behind the encoder: each pooling for an embedder, one head for the others."""
    return (("head", False),) if model.labels else POOLINGS


def stored_variants(model: Model) -> Sequence[tuple[str, bool]]:
    """Those with stored vectors: every pooling for one model of each architecture."""
    whole = model.labels or model.name in ("bert", "modernbert")
    return variants(model) if whole else POOLINGS[:1]


def difference(got: F32, wanted: NDArray[Any], logits: bool) -> float:
    """The largest difference, relative to the largest value of its row.

    Logits are taken relative to the largest of all rows, or to 1 where all are smaller: a row's
    only one may be close to zero, and a probability moves by a quarter of what its logit does.
    """
    scale = np.maximum(np.abs(wanted).max(), 1) if logits else np.abs(wanted).max(axis=1)
    return float((np.abs(got.astype(np.float64) - wanted).max(axis=1) / scale).max())

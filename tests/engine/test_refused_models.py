"""Models that are not supported: refused when they are registered, by name, with what is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import write_tiny_bert

from gpu_worker.engine import EngineError, quantise

Json = dict[str, Any]


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | changes))


CONFIG: list[tuple[Json, str]] = [
    (
        {"model_type": "albert"},
        "config.json's model_type 'albert' is not supported; supported: bert, roberta, "
        "xlm-roberta, distilbert, modernbert",
    ),
    ({"model_type": "llama"}, "model_type 'llama' is not supported; supported: bert, roberta"),
    ({"model_type": "deberta-v2"}, "model_type 'deberta-v2' is not supported; supported: bert"),
    ({"model_type": None}, "model_type None is not supported; supported: bert"),
    ({"hidden_act": "silu"}, "hidden_act 'silu' .* supported: gelu, gelu_new, gelu_py.*, relu"),
    (
        {"position_embedding_type": "relative_key"},
        "position_embedding_type 'relative_key' .* supported: absolute",
    ),
    ({"is_decoder": True}, "is_decoder True .* supported: False"),
    ({"add_cross_attention": True}, "add_cross_attention True .* supported: False"),
    ({"auto_map": {"AutoModel": "a.B"}}, "config.json has auto_map, .* code of its own"),
    ({"quantization_config": {"bits": 4}}, "config.json has quantization_config, .* unquantised"),
    ({"num_attention_heads": 5}, "must be a multiple of config.heads"),
    ({"hidden_size": None}, "hidden_size is None; it must be a positive integer"),
    ({"layer_norm_eps": 0}, "layer_norm_eps is 0; it must be positive"),
    ({"vocab_size": 101}, r"word_embeddings.weight is \[100, 32\], not \[101, 32\]"),
    ({"num_hidden_layers": 3}, "no tensor encoder.layer.2.attention.*, which config.json asks for"),
]

MODERN: Json = {
    "model_type": "modernbert", "vocab_size": 100, "hidden_size": 32, "num_attention_heads": 4,
    "num_hidden_layers": 3, "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip

PLAIN: list[tuple[Json, str]] = [
    (
        {"architectures": ["BertForTokenClassification"]},
        "names BertForTokenClassification, .*; supported: …ForSequenceClassification, and for emb",
    ),
    ({"architectures": ["BertLMHeadModel"], "is_decoder": True}, "is_decoder True .* supported"),
    (
        {"architectures": ["BertForSequenceClassification"], "problem_type": "ranking"},
        "problem_type 'ranking' .* supported: single_label_classification, multi_label_",
    ),
    (
        {
            "architectures": ["BertForSequenceClassification"],
            "problem_type": "regression",
            "num_labels": 3,
        },
        "problem_type regression with 3 labels is not supported; supported: one value",
    ),
    (
        {"architectures": ["BertForSequenceClassification"], "id2label": {"1": "a", "2": "b"}},
        "id2label must name the labels from 0 on",
    ),
    (MODERN | {"rope_scaling": {"type": "yarn"}}, "has rope_scaling, which is not supported"),
    (
        MODERN | {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}},
        "rope_type 'yarn' is not supported; supported: default",
    ),
    (MODERN | {"hidden_size": 36, "num_attention_heads": 4}, "36 must be a multiple of twice its"),
    (MODERN | {"local_attention": 1}, "local_attention is 1; it must be an integer of at least 2"),
    (
        MODERN | {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
        "layer_types is not supported; supported: full_attention in every n-th layer",
    ),
    (
        MODERN
        | {"architectures": ["ModernBertForSequenceClassification"], "classifier_pooling": "max"},
        "classifier_pooling 'max' is not supported; supported: cls, mean",
    ),
    (
        MODERN
        | {
            "architectures": ["ModernBertForSequenceClassification"],
            "classifier_activation": "silu",
        },
        "classifier_activation 'silu' is not supported; supported: gelu",
    ),
]

POOLING: list[tuple[Json, str]] = [
    ({"pooling_mode_max_tokens": True}, r"pooling max\+mean .* supported: mean, cls, max"),
    ({"pooling_mode_mean_tokens": False}, "pooling none of .* supported: mean, cls, max"),
    ({"pooling_mode": "lasttoken"}, "pooling lasttoken of .* supported: mean, cls, max"),
    ({"pooling_mode": "weightedmean"}, "pooling weightedmean of .* supported: mean, cls, max"),
    ({"pooling_mode": ["cls", "mean"]}, r"pooling cls\+mean of .* supported: mean, cls, max"),
    ({"include_prompt": False}, "include_prompt false, which is not supported: .* every token"),
]

TRANSFORMER: list[tuple[Json, str]] = [
    (
        {"transformer_task": "fill-mask"},
        "transformer_task 'fill-mask' .* supported: feature-extraction, sequence-classification",
    ),
    ({"transformer_task": "sequence-classification"}, "lists 3 modules for the task sequence-cl"),
    ({"do_lower_case": True}, "do_lower_case, and tokenizer.json does not lower texts"),
    ({"processing_kwargs": {"text": {}}}, "processing_kwargs, .* by tokenizer.json alone"),
    (
        {"modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}},
        "modality_config takes .*logits.* supported: last_hidden_state of forward",
    ),
    ({"max_seq_length": -3}, "max_seq_length is -3; it must be a positive integer"),
]


@pytest.mark.parametrize(
    ("file", "changes", "text"),
    [
        *(("config.json", *case) for case in CONFIG),
        *(("1_Pooling/config.json", *case) for case in POOLING),
        *(("sentence_bert_config.json", *case) for case in TRANSFORMER),
        ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, "supported: senten"),
    ],
)
def test_by_one_field(tiny: Path, tmp_path: Path, file: str, changes: Json, text: str) -> None:
    """Nothing is written."""
    (tiny / "2_Normalize").mkdir(exist_ok=True)
    edit(tiny, file, **changes)
    with pytest.raises(EngineError, match=text):
        quantise(tiny, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changes", "text"), PLAIN)
def test_plain_checkpoints(tiny: Path, tmp_path: Path, changes: Json, text: str) -> None:
    """Without modules.json, where config.json's architectures decide."""
    (tiny / "modules.json").unlink()
    (tiny / "tokenizer.json").write_text("{}")
    edit(tiny, "config.json", **changes)
    with pytest.raises(EngineError, match=text):
        quantise(tiny, tmp_path / "out")


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        (["Transformer", "Pooling", "Dense"], "module Dense of .* supported: Transformer, Pooling"),
        (["Router", "Pooling"], "module Router of .* supported: Transformer, Pooling, Normalize"),
        (["StaticEmbedding"], "module StaticEmbedding of .* supported: Transformer, Pooling"),
        (["Pooling"], "lists Pooling; supported: Transformer, Pooling"),
        ([], "lists nothing; supported: Transformer, Pooling"),
        (["Transformer"], "lists 1 modules for the task feature-extraction; supported: Trans"),
        (["Transformer", "Normalize", "Pooling"], "lists Transformer, Normalize, Pooling; suppor"),
    ],
)
def test_modules(tiny: Path, tmp_path: Path, kinds: list[str], text: str) -> None:
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": ""} for kind in kinds]
    (tiny / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EngineError, match=text):
        quantise(tiny, tmp_path / "out")


def test_files_that_are_missing_or_broken(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="'int4' is not supported; supported: exact16, exact13"):
        quantise(tiny, tmp_path / "out", numerics="int4")
    (tiny / "modules.json").write_text('{"a": 1}')
    with pytest.raises(EngineError, match="is not a list of modules"):
        quantise(tiny, tmp_path / "out")
    (tiny / "modules.json").write_text("[{]")
    with pytest.raises(EngineError, match=r"modules\.json is not JSON"):
        quantise(tiny, tmp_path / "out")
    (tiny / "modules.json").unlink()
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(EngineError, match=r"has no model\.safetensors and no .*; save the model"):
        quantise(tiny, tmp_path / "out")
    (tiny / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(EngineError, match="has an empty weight_map"):
        quantise(tiny, tmp_path / "out")
    (tiny / "1_Pooling" / "config.json").unlink()
    with pytest.raises(EngineError, match=r"cannot read .*1_Pooling/config\.json: No such file"):
        quantise(tiny, tmp_path / "out")
    (tiny / "config.json").write_text("[")
    with pytest.raises(EngineError, match=r"config\.json is not JSON"):
        quantise(tiny, tmp_path / "out")
    with pytest.raises(EngineError, match=r"cannot read .*config\.json: No such file .* layout"):
        quantise(tmp_path / "nowhere", tmp_path / "out")


def test_weights_that_float16_cannot_hold(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "model", spread=1e6)
    with pytest.raises(EngineError, match="holds values beyond float16; use bfloat16 or float32"):
        quantise(folder, tmp_path / "out", numerics="float16")


PAIRS: list[tuple[Json, str]] = [
    (
        {"pair": ["[CLS]:0", "A:1", "[SEP]:1", "B:0", "[SEP]:0"]},
        "tokenizer.json marks the tokens of a pair in a way that is not supported: its types must",
    ),
    ({"pair": ["[SEP]:0", "A:0", "[SEP]:0", "B:1", "[SEP]:1"]}, "up to and including one separat"),
    ({"pair": ["[CLS]:0", "A:0", "B:1", "[SEP]:1"]}, "up to and including one separator and 1"),
]


@pytest.mark.parametrize(("template", "text"), PAIRS)
def test_cross_encoders_whose_tokenizer_types_pairs_otherwise(
    tiny: Path, tmp_path: Path, template: Json, text: str
) -> None:
    """Segment 1 begins right behind the first separator, or nowhere."""
    pieces = []
    for piece in template["pair"]:
        name, kind = piece.split(":")
        what = "SpecialToken" if name.startswith("[") else "Sequence"
        pieces.append({what: {"id": name, "type_id": int(kind)}})
    tokens = {name: {"id": name, "ids": [place]} for place, name in enumerate(("[CLS]", "[SEP]"))}
    processor = {"type": "TemplateProcessing", "pair": pieces, "special_tokens": tokens}
    (tiny / "tokenizer.json").write_text(json.dumps({"post_processor": processor}))
    (tiny / "modules.json").unlink()
    edit(tiny, "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(EngineError, match=text):
        quantise(tiny, tmp_path / "out")

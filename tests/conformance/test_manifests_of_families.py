"""What a manifest says of each family, from configurations that transformers saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from zoo import MODELS, SEPARATOR, VECTORS, add_tokenizer, write_checkpoint

from gpu_worker.engine import EngineError, quantise

Fields = dict[str, Any]


@pytest.fixture
def register(tmp_path: Path) -> Callable[..., tuple[Fields, str]]:
    """``register(name, **changes of config.json)``: the fields and the weights' digest."""

    def run(name: str, **changes: Any) -> tuple[Fields, str]:
        (model,) = (model for model in MODELS if model.name == name)
        vectors = json.loads((VECTORS / f"{name}.json").read_text())
        config = {k: v for k, v in (vectors["config"] | changes).items() if v != "absent"}
        folder = write_checkpoint(tmp_path / "model", config, vectors["shapes"], 0)
        if not (folder / "tokenizer.json").exists():
            add_tokenizer(folder, model.family)
        fields = quantise(folder, tmp_path / "out")
        return fields, sha256((tmp_path / "out/weights.safetensors").read_bytes()).hexdigest()

    return run


@pytest.mark.parametrize(
    ("name", "head", "pooling", "labels"),
    [
        ("bert-score", "tanh", "cls", 1),
        ("bert-classify", "tanh", "cls", 3),
        ("roberta-classify", "tanh", "cls", 4),
        ("xlm-roberta-score", "tanh", "cls", 1),
        ("distilbert-classify", "relu", "cls", 2),
        ("modernbert-score", "gelu_norm", "mean", 1),
        ("modernbert-classify", "gelu_norm", "cls", 5),
    ],
)
def test_classifiers(
    register: Callable[..., Any], name: str, head: str, pooling: str, labels: int
) -> None:
    """One logit scores, several classify under their names."""
    fields, _ = register(name)
    config = fields["config"]

    assert fields["operations"] == ["score" if labels == 1 else "classify"]
    assert fields["width"] == config["labels"] == labels
    assert fields.get("labels", ["label 0"]) == [f"label {index}" for index in range(labels)]
    assert ("labels" in fields) == (labels > 1)
    assert (config["head"], config["pooling"]) == (head, pooling)
    assert config["probability"] == ("sigmoid" if labels == 1 else "softmax")
    typed = name.startswith("bert")
    assert (config["segments"], config["separator"]) == ((2, SEPARATOR) if typed else (1, -1))


def test_independent_labels_have_probabilities_of_their_own(register: Callable[..., Any]) -> None:
    fields, _ = register("bert-classify", problem_type="multi_label_classification")

    assert fields["config"]["probability"] == "sigmoid"


def test_two_nameless_labels(register: Callable[..., Any]) -> None:
    """transformers leaves its default out of config.json."""
    fields, _ = register("distilbert-classify", id2label="absent", label2id="absent")

    assert fields["labels"] == ["LABEL_0", "LABEL_1"]


def test_a_classifier_with_another_number_of_labels_is_refused(
    register: Callable[..., Any],
) -> None:
    with pytest.raises(EngineError, match=r"classifier.weight is \[2, 48\], not \[3, 48\]"):
        register("distilbert-classify", id2label={0: "a", 1: "b", 2: "c"})


def test_roberta_rows_use_what_lies_behind_the_padding_position(
    register: Callable[..., Any],
) -> None:
    fields, _ = register("roberta")

    assert fields["config"]["positions"] == fields["max_tokens"] == 72


def test_tokenizers_that_give_no_types(register: Callable[..., Any], tmp_path: Path) -> None:
    """Then transformers feeds zeros, and so do we."""
    (tmp_path / "model").mkdir()
    config = {"model_input_names": ["input_ids", "attention_mask"]}
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(config))
    fields, _ = register("bert-score")
    assert fields["config"]["segments"] == 1

    (tmp_path / "model/tokenizer_config.json").unlink()
    plain: Fields = {"type": "BertProcessing", "sep": ["[SEP]", 9]}
    for processor in (plain, {"type": "Sequence", "processors": [plain]}):
        (tmp_path / "model/tokenizer.json").write_text(json.dumps({"post_processor": processor}))
        assert register("bert-score")[0]["config"]["separator"] == 9
    (tmp_path / "model/tokenizer.json").write_text(json.dumps({"post_processor": None}))
    assert register("bert-score")[0]["config"]["separator"] == -1
    (tmp_path / "model/tokenizer.json").unlink()


def test_modernbert_configurations_of_both_ages(register: Callable[..., Any]) -> None:
    """transformers before 5 wrote bases and the pattern as single numbers: the same bytes."""
    new, digest = register("modernbert")
    old = {
        "rope_parameters": "absent", "layer_types": "absent", "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0, "global_attn_every_n_layers": 3,
    }  # fmt: skip
    assert register("modernbert", **old) == (new, digest)
    assert register("modernbert", rope_parameters="absent") == (new, digest)

    _, one_base = register("modernbert", **old | {"local_rope_theta": None})
    _, other = register("modernbert", **old | {"local_rope_theta": 160000.0})
    assert one_base == other != digest
    assert (new["config"]["window"], new["config"]["global_every"]) == (8, 3)


def test_modernbert_without_local_layers_has_no_local_tables(register: Callable[..., Any]) -> None:
    fields, _ = register(
        "modernbert", layer_types="absent", global_attn_every_n_layers=1, local_attention=1
    )

    assert (fields["config"]["window"], fields["config"]["global_every"]) == (0, 1)


def test_rotary_tables_end_with_the_longest_row(
    register: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/sentence_bert_config.json").write_text('{"max_seq_length": 40}')
    fields, _ = register("modernbert")

    assert fields["config"]["positions"] == fields["max_tokens"] == 40

"""``inferpool model``: what is registered, how it is named, what is refused and why."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from huggingface_hub.utils import filter_repo_objects

from pool.cli import cli
from pool.commands import model
from pool.commands.sources import HUB_FILES, HUB_OTHERS

FIELDS = {
    "architecture": "bert",
    "operations": ["embed"],
    "numerics": "exact16",
    "width": 4,
    "dtype": "<f4",
    "max_tokens": 16,
    "vocabulary": 40,
    "macs_per_token": 1000,
    "macs_per_pair": 10,
    "config": {"probability": "none"},
}
E5 = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt": "passage"}
RERANKER = {"operations": ["score"], "width": 1, "config": {"probability": "sigmoid"}}
MOOD = {
    "operations": ["classify"],
    "width": 2,
    "labels": ["sad", "glad"],
    "config": {"probability": "softmax"},
}


def inferpool(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.fixture
def house(tmp_path):
    """A pool's folder."""
    assert inferpool("init", tmp_path / "pool").exit_code == 0
    return tmp_path / "pool"


@pytest.fixture
def add(house, tmp_path, monkeypatch):
    """Adds a model whose folder says ``fields``: the pool's part, without the engine's."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.json").write_text("{}")

    def run(name, *options, **fields):
        def quantise(folder, out, *, numerics):
            (out / "weights.safetensors").write_bytes(b"weights in " + numerics.encode())
            return {**FIELDS, "numerics": numerics, **fields}

        monkeypatch.setattr(model, "quantise", quantise)
        return inferpool("model", "add", name, "--from", source, "--config", house, *options)

    return run


@pytest.fixture
def listed(house):
    """What ``model list`` tells of a model."""

    def of(name):
        done = inferpool("model", "list", "--config", house, "--json")
        return {entry["name"]: entry for entry in json.loads(done.stdout)}.get(name)

    return of


@pytest.mark.parametrize(
    ("fields", "endpoint", "labels"),
    [
        ({}, "/v1/embeddings", []),
        (RERANKER, "/v1/rerank", []),
        (MOOD, "/v1/classify", ["sad", "glad"]),
        (MOOD | {"labels": None}, "/v1/classify", ["LABEL_0", "LABEL_1"]),
    ],
)
def test_a_model_is_offered_at_the_endpoint_of_its_operation(add, listed, fields, endpoint, labels):
    """Said when it is added, and in the list, in words and in JSON."""
    done = add("it", **fields)

    assert done.exit_code == 0, done.output
    assert f"it is registered for {endpoint}: " in done.stdout
    found = listed("it")
    assert (found["endpoint"], found["labels"]) == (endpoint, labels)
    assert (found["prompts"], found["default_prompt"]) == ({}, None)


def test_the_list_for_people_has_the_endpoint(add, house):
    """It is what a customer needs first."""
    add("it", **RERANKER)
    (line,) = (
        line
        for line in inferpool("model", "list", "--config", house).stdout.splitlines()
        if line.startswith("it ")
    )

    assert line.split()[:4] == ["it", "/v1/rerank", "bert", "exact16"]


def test_prompts_are_the_folders_and_the_options(add, listed):
    """An option wins over the folder's text of that name; text after the first = is text."""
    assert add("folder", **E5).exit_code == 0
    options = ("--prompt", "query=ask = ", "--prompt", "title=", "--default-prompt", "query")
    assert add("options", *options, **E5).exit_code == 0
    assert add("none", "--default-prompt", "", **E5).exit_code == 0

    assert listed("folder")["prompts"] == E5["prompts"]
    assert listed("folder")["default_prompt"] == "passage"
    assert listed("options")["prompts"] == {
        "query": "ask = ",
        "passage": "passage: ",
        "title": "",
    }
    assert listed("options")["default_prompt"] == "query"
    assert listed("none")["prompts"] == E5["prompts"]
    assert listed("none")["default_prompt"] is None


def test_a_float_numerics_is_offered_with_a_word_on_what_it_cannot_do(add, listed):
    done = add("it", "--numerics", "float32", tolerance=2.0**-29)

    assert done.exit_code == 0
    assert "not the same bits" in done.stderr
    assert "1.9e-09" in done.stderr
    assert "no GPU takes its shares" in done.stderr
    assert listed("it@float32")["numerics"] == "float32"


@pytest.mark.parametrize("numerics", ["exact13", "exact8w", "exact8"])
def test_other_numerics_are_models_of_their_own(add, listed, numerics):
    """Named after them, so that a customer chooses by name."""
    assert add("it", "--numerics", numerics).exit_code == 0

    assert listed(f"it@{numerics}")["numerics"] == numerics
    assert listed("it") is None


@pytest.mark.parametrize(
    ("options", "fields", "said"),
    [
        (("--numerics", "float64"), {}, "float32, float16, bfloat16"),
        (("--numerics", "exact4"), {}, "'exact4' is unknown: choose one of exact16"),
        (("--prompt", "query"), {}, "'query': write NAME=TEXT"),
        (("--prompt", "=x"), {}, "'=x': write NAME=TEXT"),
        (("--default-prompt", "query"), {}, "it has none"),
        (("--default-prompt", "title"), E5, "(passage, query)"),
        (("--prompt", "query=x"), RERANKER, "for models that embed; this one is for score"),
        ((), {"operations": ["translate"]}, "no endpoint serves translate"),
        ((), MOOD | {"config": {"probability": "tanh"}}, "'tanh'"),
        ((), MOOD | {"labels": ["sad"]}, "1 labels for 2 values"),
    ],
)
def test_what_cannot_be_offered_is_refused_with_the_remedy(add, listed, options, fields, said):
    """And nothing is registered."""
    done = add("it", *options, **fields)

    assert done.exit_code != 0
    assert said in " ".join(done.stderr.split())
    assert listed("it") is None


def test_a_name_is_given_once(add):
    """Customers choose by it."""
    assert add("it").exit_code == 0
    again = add("it", **E5)

    assert again.exit_code == 1
    assert "a model named 'it' is registered already" in again.stderr


NEEDED = [
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "0_Transformer/config.json",
    "0_Transformer/model.safetensors",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
]
OTHERS = [
    "README.md",
    "pytorch_model.bin",
    "tf_model.h5",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "onnx/model.onnx",
    "onnx/config.json",
    "onnx/tokenizer.json",
    "openvino/openvino_model.bin",
    "openvino/config.json",
    "checkpoint-500/model.safetensors",
    "runs/events.json",
]


def test_what_is_fetched_from_the_hub_is_what_is_needed():
    """Settings, tokenizer, weights in any number of parts, modules; nothing for other runtimes."""
    fetched = filter_repo_objects(
        [*NEEDED, *OTHERS], allow_patterns=list(HUB_FILES), ignore_patterns=list(HUB_OTHERS)
    )

    assert list(fetched) == NEEDED

"""Registration: the same bytes every time, many layouts, and refusals by name."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tiny_bert import write_tiny_bert

from gpu_worker.engine import SUPPORTED_NUMERICS, EngineError, quantise
from gpu_worker.engine.numerics import EXACT, FLOAT


def digest(folder: Path) -> str:
    return sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_public_list_is_what_the_operations_know() -> None:
    assert (*EXACT, *FLOAT) == SUPPORTED_NUMERICS


@pytest.mark.parametrize("numerics", SUPPORTED_NUMERICS)
def test_the_fields_of_the_manifest(tiny: Path, tmp_path: Path, numerics: str) -> None:
    fields = quantise(tiny, tmp_path / "out", numerics=numerics)

    assert json.loads(json.dumps(fields)) == fields
    assert (fields.pop("tolerance", 0) > 0) == (numerics in FLOAT)
    assert fields == {
        "architecture": "bert",
        "operations": ["embed"],
        "numerics": numerics,
        "width": 32,
        "dtype": "<f4",
        "max_tokens": 64,
        "vocabulary": 100,
        "macs_per_token": 2 * (4 * 32 * 32 + 2 * 32 * 64),
        "macs_per_pair": 2 * 2 * 32,
        "config": {
            "layers": 2,
            "hidden": 32,
            "heads": 4,
            "intermediate": 64,
            "positions": 64,
            "norm_eps": 1e-12,
            "activation": "gelu",
            "pooling": "mean",
            "normalise": True,
            "segments": 1,
            "separator": -1,
            "head": "none",
            "labels": 0,
            "probability": "none",
            "window": 0,
            "global_every": 1,
        },
    }


@pytest.mark.parametrize("numerics", SUPPORTED_NUMERICS)
def test_the_same_folder_gives_the_same_bytes(tiny: Path, tmp_path: Path, numerics: str) -> None:
    for name in ("one", "two"):
        quantise(tiny, tmp_path / name, numerics=numerics)

    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_the_file_is_plain_safetensors(tiny: Path, tmp_path: Path) -> None:
    """The independent reader agrees on every tensor, and the integers give the weights back."""
    quantise(tiny, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "weights.safetensors")
    source = load_file(tiny / "model.safetensors")
    weight = tensors["layer.1.up.weight"]
    wanted = source["encoder.layer.1.intermediate.dense.weight"]

    assert weight.dtype == np.int16
    assert np.abs(weight).max(axis=1).tolist() == [32639] * 64
    restored = weight * tensors["layer.1.up.scale"][:, None].astype(np.float64)
    assert np.abs(restored - wanted).max() <= 0.51 * tensors["layer.1.up.scale"].max()
    assert np.array_equal(
        tensors["embeddings.position"],
        source["embeddings.position_embeddings.weight"][None]
        + source["embeddings.token_type_embeddings.weight"][0],
    )
    assert sorted(tensors) == sorted(EXPECTED)


EXPECTED = [
    "embeddings.word", "embeddings.position", "embeddings.norm.gain", "embeddings.norm.bias",
    *(
        f"layer.{index}.{name}.{part}"
        for index in range(2)
        for names, parts in (
            (("qkv", "attention_out", "up", "down"), ("weight", "scale", "bias")),
            (("attention_norm", "output_norm"), ("gain", "bias")),
        )
        for name in names
        for part in parts
    ),
]  # fmt: skip


def test_other_spellings_of_the_same_checkpoint_give_the_same_bytes(
    tiny: Path, tmp_path: Path
) -> None:
    """A prefix ``bert.``, older names of norm parameters, more tensors than are needed."""
    quantise(tiny, tmp_path / "plain")
    tensors = load_file(tiny / "model.safetensors")
    renamed = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    renamed["bert.pooler.dense.weight"] = np.zeros((32, 32), np.float32)
    renamed["bert.embeddings.position_ids"] = np.arange(64, dtype=np.int64)
    save_file(renamed, tiny / "model.safetensors")
    quantise(tiny, tmp_path / "renamed")

    assert digest(tmp_path / "plain") == digest(tmp_path / "renamed")


def test_half_precision_checkpoints_are_read_exactly(tiny: Path, tmp_path: Path) -> None:
    """F16 and BF16 files give what their float32 equals give."""
    tensors = load_file(tiny / "model.safetensors")
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    brains = {name: tensor.view(np.uint32) >> 16 for name, tensor in tensors.items()}
    for kind, wide in (
        ("F16", {name: half.astype(np.float32) for name, half in halves.items()}),
        ("BF16", {name: (brain << 16).view(np.float32) for name, brain in brains.items()}),
    ):
        save_file(wide, tiny / "model.safetensors")
        quantise(tiny, tmp_path / "wide")
        if kind == "F16":
            save_file(halves, tiny / "model.safetensors")
        else:
            _save_brain_floats(tiny / "model.safetensors", brains)
        quantise(tiny, tmp_path / "narrow")

        assert digest(tmp_path / "wide") == digest(tmp_path / "narrow")


def _save_brain_floats(path: Path, tensors: dict[str, NDArray[np.uint32]]) -> None:
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.astype("<u2").tobytes()
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": place}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_tiny_weights_become_zero(tiny: Path, tmp_path: Path) -> None:
    """Subnormals cannot influence a result: they are flushed here, once, for everyone."""
    tensors = {name: np.array(t) for name, t in load_file(tiny / "model.safetensors").items()}
    tensors["encoder.layer.0.output.dense.bias"][:4] = [1e-40, -1e-31, -0.0, 1e-20]
    tensors["encoder.layer.0.output.dense.weight"][3] = 1e-41
    save_file(tensors, tiny / "model.safetensors")
    quantise(tiny, tmp_path / "out")
    got = load_file(tmp_path / "out" / "weights.safetensors")

    bias = got["layer.0.down.bias"][:4]
    assert bias.tolist() == [0, 0, 0, np.float32(1e-20)]
    assert not np.signbit(bias).any()
    assert not got["layer.0.down.weight"][3].any()
    assert got["layer.0.down.scale"][3] == 2.0**-50


def test_layouts_of_the_folder(tmp_path: Path) -> None:
    """Pooling, normalisation and the longest row come from where each library puts them."""
    folder = write_tiny_bert(tmp_path / "a", pooling="cls", normalise=False)
    fields = quantise(folder, tmp_path / "out")
    assert (fields["config"]["pooling"], fields["config"]["normalise"]) == ("cls", False)

    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    assert quantise(folder, tmp_path / "out")["max_tokens"] == 20
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 2000}')
    assert quantise(folder, tmp_path / "out")["max_tokens"] == 64
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": null}')
    assert quantise(folder, tmp_path / "out")["max_tokens"] == 64

    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    assert quantise(folder, tmp_path / "out")["config"]["pooling"] == "mean"

    (folder / "modules.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "1_Pooling").rmdir()
    fields = quantise(folder, tmp_path / "out")
    assert (fields["config"]["pooling"], fields["config"]["normalise"]) == ("mean", False)


def test_weights_that_are_not_finite_are_refused(tiny: Path, tmp_path: Path) -> None:
    tensors = {name: np.array(t) for name, t in load_file(tiny / "model.safetensors").items()}
    tensors["embeddings.word_embeddings.weight"][7, 7] = np.nan
    save_file(tensors, tiny / "model.safetensors")
    with pytest.raises(EngineError, match=r"word_embeddings\.weight holds values that are not f"):
        quantise(tiny, tmp_path / "out")


def test_a_checkpoint_in_several_files_gives_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    """Found through the index; a file that it names must be there, and inside the folder."""
    quantise(tiny, tmp_path / "whole")
    tensors = load_file(tiny / "model.safetensors")
    (tiny / "model.safetensors").unlink()
    places = {name: f"model-{len(name) % 3}.safetensors" for name in tensors}
    for file in set(places.values()):
        save_file({n: t for n, t in tensors.items() if places[n] == file}, tiny / file)
    index = tiny / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    quantise(tiny, tmp_path / "parts")

    assert digest(tmp_path / "whole") == digest(tmp_path / "parts")

    (tiny / "model-1.safetensors").rename(tiny / "away.safetensors")
    with pytest.raises(EngineError, match=r"index.json names model-1.safetensors, which is not in"):
        quantise(tiny, tmp_path / "out")
    index.write_text(json.dumps({"weight_map": {"a": "../tiny/away.safetensors"}}))
    with pytest.raises(EngineError, match=r"names \.\./tiny/away.safetensors, which is not in"):
        quantise(tiny, tmp_path / "out")


def test_prompts_come_with_the_model(tiny: Path, tmp_path: Path) -> None:
    """As sentence-transformers saves them; prompts that are all empty say nothing."""
    path = tiny / "config_sentence_transformers.json"
    prompts = {"query": "query: ", "document": ""}
    path.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "query"}))
    fields = quantise(tiny, tmp_path / "out")
    assert (fields["prompts"], fields["default_prompt"]) == (prompts, "query")

    path.write_text(json.dumps({"prompts": {"query": "", "document": ""}}))
    assert "prompts" not in quantise(tiny, tmp_path / "out")

    path.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "passage"}))
    with pytest.raises(EngineError, match="'passage' is not among its prompts: query, document"):
        quantise(tiny, tmp_path / "out")

"""Quantising a BERT model from a folder in the sentence-transformers or Hugging Face layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.encoderconfig import MAX_TOKENS, EncoderConfig, read_config
from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.layers import shapes
from gpu_worker.engine.loader import WEIGHTS_FILE
from gpu_worker.engine.numerics import EXACT, Exact
from gpu_worker.engine.ops import quantise_rows
from gpu_worker.engine.tensors import TensorFile, write_tensors

F32 = NDArray[np.float32]

MODEL_TYPES: Final = ("bert",)
MODULES: Final = ("Transformer", "Pooling", "Normalize")
_SMALLEST: Final = np.float32(2.0**-100)
"""Weights below this in magnitude become zero: sums of larger ones are never subnormal."""
_LARGEST: Final = np.float32(2.0**64)
_NORM_PARTS: Final = {"gain": ("weight", "gamma"), "bias": ("bias", "beta")}


def register(folder: Path, out: Path, numerics: str) -> dict[str, Any]:
    """See ``gpu_worker.engine.quantise``."""
    if numerics not in EXACT:
        raise EngineError(f"numerics {numerics!r} is not supported; supported: {', '.join(EXACT)}")
    transformer, pooling, normalise = _read_modules(folder)
    source = _read_json(transformer / "config.json")
    config = _read_model(source, pooling, normalise)
    vocabulary = _integer(source, "vocab_size")
    max_tokens = min(
        _read_max_tokens(folder, transformer, config.positions), config.positions, MAX_TOKENS
    )
    weights = _Source(transformer)
    tensors = _embeddings(weights, config, vocabulary, _integer(source, "type_vocab_size", 2))
    for index in range(config.layers):
        tensors |= _layer(weights, config, index, EXACT[numerics])
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / WEIGHTS_FILE, tensors)
    return {
        "architecture": "bert",
        "operations": ["embed"],
        "numerics": numerics,
        "width": config.hidden,
        "dtype": "<f4",
        "max_tokens": max_tokens,
        "vocabulary": vocabulary,
        "macs_per_token": config.work("bert")[0],
        "macs_per_pair": config.work("bert")[1],
        "config": config.fields(),
    }


# -- what the folder says ------------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EngineError(
            f"cannot read {path}: {error.strerror}; the folder must hold a model in the "
            "sentence-transformers or Hugging Face layout"
        ) from error
    except ValueError as error:
        raise EngineError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise EngineError(f"{path} must hold a JSON object")
    return value


def _read_modules(folder: Path) -> tuple[Path, str, bool]:
    """The transformer's folder, the pooling, and whether the result is normalised."""
    path = folder / "modules.json"
    if not path.exists():
        pooling = folder / "1_Pooling"
        return folder, _read_pooling(pooling) if pooling.is_dir() else "mean", False
    try:
        modules = [
            (str(m["type"]).rsplit(".", 1)[-1], folder / str(m["path"]))
            for m in json.loads(path.read_text("utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is not a list of modules with type and path") from error
    kinds = tuple(kind for kind, _ in modules)
    for kind in kinds:
        if kind not in MODULES:
            raise EngineError(
                f"module {kind} of {path} is not supported; supported: {', '.join(MODULES)}"
            )
    if kinds not in (MODULES[:2], MODULES):
        raise EngineError(
            f"{path} lists {', '.join(kinds)}; supported: Transformer, Pooling, "
            "and Normalize or nothing, in this order"
        )
    return modules[0][1], _read_pooling(modules[1][1]), len(kinds) == len(MODULES)


def _read_pooling(folder: Path) -> str:
    config = _read_json(folder / "config.json")
    modes = {
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, value in config.items()
        if name.startswith("pooling_mode_") and value is True
    }
    if isinstance(config.get("pooling_mode"), str):
        modes.add(config["pooling_mode"])
    if modes not in ({"mean"}, {"cls"}):
        raise EngineError(
            f"pooling {'+'.join(sorted(modes)) or 'none'} of {folder / 'config.json'} is not "
            "supported; supported: mean, cls"
        )
    return modes.pop()


def _integer(source: dict[str, Any], name: str, default: int | None = None) -> int:
    value = source.get(name, default)
    if type(value) is not int or value < 1:
        raise EngineError(f"config.json's {name} is {value!r}; it must be a positive integer")
    return value


def _read_model(source: dict[str, Any], pooling: str, normalise: bool) -> EncoderConfig:
    for name, default, supported in (
        ("model_type", None, MODEL_TYPES),
        ("hidden_act", "gelu", ("gelu",)),
        ("position_embedding_type", "absolute", ("absolute",)),
        ("is_decoder", False, (False,)),
        ("add_cross_attention", False, (False,)),
    ):
        value = source.get(name, default)
        if value not in supported:
            raise EngineError(
                f"config.json's {name} {value!r} is not supported; supported: "
                + ", ".join(str(known) for known in supported)
            )
    return read_config(
        {
            "layers": _integer(source, "num_hidden_layers"),
            "hidden": _integer(source, "hidden_size"),
            "heads": _integer(source, "num_attention_heads"),
            "intermediate": _integer(source, "intermediate_size"),
            "positions": _integer(source, "max_position_embeddings"),
            "norm_eps": source.get("layer_norm_eps", 1e-12),
            "activation": "gelu",
            "pooling": pooling,
            "normalise": normalise,
        }
    )


def _read_max_tokens(folder: Path, transformer: Path, positions: int) -> int:
    for path in (transformer / "sentence_bert_config.json", folder / "sentence_bert_config.json"):
        if path.exists():
            value = _read_json(path).get("max_seq_length")
            if value is not None:
                return _integer({"max_seq_length": value}, "max_seq_length")
    return positions


# -- the tensors -----------------------------------------------------------------------------


class _Source:
    """The float tensors of a BERT checkpoint, by their names below the model's prefix."""

    def __init__(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        if not path.exists():
            raise EngineError(
                f"{folder} has no model.safetensors; save the model as one safetensors file"
            )
        self._file = TensorFile(path)
        self._prefix = "bert." if "bert.embeddings.word_embeddings.weight" in self._file else ""

    def read(self, names: tuple[str, ...], shape: tuple[int, ...]) -> F32:
        """The first of ``names`` that is there, as float32 of ``shape``, tiny values as zero."""
        full = [self._prefix + name for name in names]
        present = [name for name in full if name in self._file]
        if not present:
            raise EngineError(f"model.safetensors has no tensor {full[0]}")
        array = self._file.as_float32(present[0])
        if array.shape != shape:
            raise EngineError(f"{present[0]} is {list(array.shape)}, not {list(shape)}")
        magnitude = np.abs(array)
        if not (magnitude < _LARGEST).all():
            raise EngineError(f"{present[0]} holds values that are not finite or not below 2^64")
        return np.where(magnitude < _SMALLEST, np.float32(0), array)


def _embeddings(
    source: _Source, config: EncoderConfig, vocabulary: int, kinds: int
) -> dict[str, NDArray[Any]]:
    width = config.hidden
    types = source.read(("embeddings.token_type_embeddings.weight",), (kinds, width))
    position = source.read(("embeddings.position_embeddings.weight",), (config.positions, width))
    return {
        "embeddings.word": source.read(("embeddings.word_embeddings.weight",), (vocabulary, width)),
        # Every token of a row is of type 0.
        "embeddings.position": (position + types[0])[None],
        **_norm(source, config, "embeddings.LayerNorm", "embeddings.norm"),
    }


def _norm(
    source: _Source, config: EncoderConfig, theirs: str, ours: str
) -> dict[str, NDArray[Any]]:
    return {
        f"{ours}.{part}": source.read(tuple(f"{theirs}.{name}" for name in names), (config.hidden,))
        for part, names in _NORM_PARTS.items()
    }


def _layer(
    source: _Source, config: EncoderConfig, index: int, numerics: Exact
) -> dict[str, NDArray[Any]]:
    theirs = f"encoder.layer.{index}"
    own = f"{theirs}.attention.self"
    dense = {
        "qkv": [f"{own}.query", f"{own}.key", f"{own}.value"],
        "attention_out": [f"{theirs}.attention.output.dense"],
        "up": [f"{theirs}.intermediate.dense"],
        "down": [f"{theirs}.output.dense"],
    }
    tensors: dict[str, NDArray[Any]] = {}
    for name, parts in dense.items():
        rows, width = shapes("bert", config, 1).dense[f"layer.{index}.{name}"]
        shape = (rows // len(parts), width)
        weight = np.concatenate([source.read((f"{part}.weight",), shape) for part in parts])
        bias = np.concatenate([source.read((f"{part}.bias",), shape[:1]) for part in parts])
        values, scale, _ = quantise_rows(weight, numerics.weights)
        prefix = f"layer.{index}.{name}"
        tensors[f"{prefix}.weight"] = values.astype(numerics.weight_dtype)
        tensors[f"{prefix}.scale"] = scale
        tensors[f"{prefix}.bias"] = bias
    for ours, place in (("attention_norm", "attention.output"), ("output_norm", "output")):
        tensors |= _norm(source, config, f"{theirs}.{place}.LayerNorm", f"layer.{index}.{ours}")
    return tensors

"""From a manifest and its files to an engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpu_worker.engine import encoderconfig
from gpu_worker.engine.backends import make_backend, resolve
from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.interface import Engine
from gpu_worker.engine.ops import Ops

if TYPE_CHECKING:
    from gpu_worker.engine.encoder import Encoder

WEIGHTS_FILE: Final = "weights.safetensors"
ARCHITECTURES: Final = (*encoderconfig.ARCHITECTURES, "blake2b")


def load(
    manifest: Mapping[str, Any],
    files: Mapping[str, Path],
    backend: str,
    threads: int | None,
    device: int,
) -> Engine:
    """See ``gpu_worker.engine.load_engine``."""
    backend = resolve(backend, device, str(manifest.get("numerics")))
    if threads is not None and threads < 1:
        raise EngineError(f"threads is {threads}; it must be at least 1")
    architecture = _text(manifest, "architecture")
    max_tokens = _integer(manifest, "max_tokens", 1, 1 << 32)
    vocabulary = _integer(manifest, "vocabulary", 1, 1 << 32)
    if architecture == "blake2b":
        from gpu_worker.engine.digest import DigestEngine

        _same(manifest, width=DigestEngine.width, dtype=DigestEngine.dtype)
        return DigestEngine(max_tokens, vocabulary)
    if architecture not in encoderconfig.ARCHITECTURES:
        raise EngineError(
            f"architecture {architecture!r} is not supported; supported: "
            + ", ".join(ARCHITECTURES)
        )
    make_ops = make_backend(backend, _text(manifest, "numerics"), device)
    encoder = _read_encoder(architecture, manifest, files, make_ops, max_tokens, vocabulary)
    if backend == "cupy":
        from gpu_worker.engine.cuda.engine import CudaEngine

        return CudaEngine(encoder, make_ops, max_tokens=max_tokens, vocabulary=vocabulary)
    from gpu_worker.engine.encoderengine import EncoderEngine

    engine = EncoderEngine(
        encoder,
        make_ops,
        max_tokens=max_tokens,
        vocabulary=vocabulary,
        threads=threads or os.cpu_count() or 1,
    )
    try:
        engine.warm_up()
    except BaseException:
        engine.close()
        raise
    return engine


def _read_encoder(
    architecture: str,
    manifest: Mapping[str, Any],
    files: Mapping[str, Path],
    make_ops: Callable[[], Ops],
    max_tokens: int,
    vocabulary: int,
) -> Encoder:
    from gpu_worker.engine.canary import check_canaries
    from gpu_worker.engine.encoder import ENCODERS
    from gpu_worker.engine.encoderconfig import MAX_TOKENS, read_config
    from gpu_worker.engine.encoderengine import EncoderEngine
    from gpu_worker.engine.layers import Weights
    from gpu_worker.engine.tensors import TensorFile

    numerics = _text(manifest, "numerics")
    config = read_config(manifest.get("config") or {})
    _same(manifest, width=config.width, dtype=EncoderEngine.dtype)
    if max_tokens > min(config.positions, MAX_TOKENS):
        raise EngineError(
            f"max_tokens is {max_tokens}; this model has {config.positions} positions, "
            f"and the engine takes rows of at most {MAX_TOKENS} tokens"
        )
    path = files.get(WEIGHTS_FILE)
    if path is None:
        raise EngineError(
            f"the model's files lack {WEIGHTS_FILE}; given: {', '.join(files) or 'none'}"
        )
    for file in manifest.get("files") or ():
        if file.get("name") == WEIGHTS_FILE and path.stat().st_size != file.get("size"):
            raise EngineError(
                f"{WEIGHTS_FILE} has {path.stat().st_size} bytes where the manifest says "
                f"{file.get('size')}; fetch it again"
            )
    check_canaries()
    weights = Weights(architecture, config, numerics, vocabulary, TensorFile(path), make_ops())
    return ENCODERS[architecture](config, weights)


def _text(manifest: Mapping[str, Any], name: str) -> str:
    value = manifest.get(name)
    if not isinstance(value, str):
        raise EngineError(f"the manifest's {name} is {value!r}; it must be a string")
    return value


def _integer(manifest: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = manifest.get(name)
    if type(value) is not int or not least <= value <= most:
        raise EngineError(f"the manifest's {name} is {value!r}; it must be from {least} to {most}")
    return value


def _same(manifest: Mapping[str, Any], **wanted: int | str) -> None:
    for name, value in wanted.items():
        if manifest.get(name) != value:
            raise EngineError(
                f"the manifest's {name} is {manifest.get(name)!r}; this model gives {value!r}"
            )

"""The model manifest: what a model is, byte for byte; its digest is its name on the wire."""

from __future__ import annotations

from hashlib import sha256

import msgspec


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model. ``role``: ``engine`` (rigs fetch it) or ``tokenizer`` (the pool's)."""

    name: str
    size: int
    sha256: str
    role: str = "engine"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A model: shape, numerics and files.

    ``config`` holds the architecture's own parameters (see ``docs/EXACT.md``). A row's result is
    ``width`` values of ``dtype`` (NumPy spelling, little-endian). ``macs_per_token`` and
    ``macs_per_pair`` give the work of a row (``shares.work``). ``labels`` name the values of a
    ``classify`` result. ``prompts`` are texts that may go before an input, by name;
    ``default_prompt`` names the one that is used unasked. ``tolerance`` is the largest
    1 - cosine between two honest results of a row in the float numerics; 0 in the exact ones,
    where results are the same bits.
    """

    architecture: str
    operations: tuple[str, ...]
    numerics: str
    width: int
    dtype: str
    max_tokens: int
    vocabulary: int
    macs_per_token: int
    macs_per_pair: int
    config: dict[str, int | float | str | bool] = {}
    files: tuple[File, ...] = ()
    labels: tuple[str, ...] = ()
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    tolerance: float = 0.0
    format: int = 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's result."""
        return self.width * int(self.dtype[2:])

    @property
    def exact(self) -> bool:
        """Whether honest results are the same bits on every machine."""
        return self.tolerance == 0


_DECODER = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical text: UTF-8 JSON without spaces, keys sorted."""
    return msgspec.json.encode(manifest, order="sorted")


def decode_manifest(text: bytes | memoryview) -> Manifest:
    """Read a manifest; ``msgspec.ValidationError`` names the field that is wrong."""
    return _DECODER.decode(text)


def manifest_digest(text: bytes | memoryview) -> str:
    """SHA-256 of the canonical text, in hex."""
    return sha256(text).hexdigest()


BLAKE2B = Manifest(
    architecture="blake2b",
    operations=("digest",),
    numerics="none",
    width=32,
    dtype="|u1",
    max_tokens=8192,
    vocabulary=1 << 32,
    macs_per_token=0,
    macs_per_pair=0,
)
"""The built-in model without weights: a row's result is the 32-byte BLAKE2b of its token ids as
little-endian uint32. Work 1 a row."""

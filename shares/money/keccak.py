"""Keccak-256 as Ethereum uses it: the padding from before SHA-3 was standardised."""

from __future__ import annotations

from Crypto.Hash import keccak


def keccak256(data: bytes) -> bytes:
    """32 bytes. ``hashlib.sha3_256`` pads otherwise and gives another digest."""
    return keccak.new(data=data, digest_bits=256).digest()

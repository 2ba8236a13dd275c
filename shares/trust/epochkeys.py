"""The keys of epochs: a hash chain, made backwards, so that a key cannot be chosen when it is used.

A chain of ``length`` keys begins with a secret seed, its last key: ``key[i] = link(key[i + 1])``,
``link(key) = SHA-256("inferpool/epoch/1" 0 key)``. Its anchor, ``link(key[1])``, is published when
the chain is made and fixes every key of it; an epoch's commitment, ``SHA-256(key)``, when the epoch
opens; the key itself when no verdict depends on it any more, and never before those of all earlier
epochs of its chain, since they follow from it.
"""

from __future__ import annotations

from hashlib import sha256

KEY_BYTES = 32

_DOMAIN = b"inferpool/epoch/1\0"


def link(key: bytes) -> bytes:
    """The key before ``key`` in its chain; of the first key, the chain's anchor."""
    return sha256(_DOMAIN + key).digest()


def commitment(key: bytes) -> bytes:
    """What is published of a key while it is secret: 32 bytes."""
    return sha256(key).digest()


def key_at(seed: bytes, length: int, place: int) -> bytes:
    """Key number ``place``, from 1 to ``length``, of a seed's chain; number 0 is its anchor."""
    if not 0 <= place <= length:
        raise ValueError(f"a chain of {length} keys has none with number {place}")
    key = seed
    for _ in range(length - place):
        key = link(key)
    return key


def leads_to(key: bytes, place: int, earlier: bytes, earlier_place: int) -> bool:
    """Whether key number ``place`` has ``earlier`` as its number ``earlier_place``."""
    if not 0 <= earlier_place <= place:
        return False
    for _ in range(place - earlier_place):
        key = link(key)
    return key == earlier

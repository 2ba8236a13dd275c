"""docs/receipt-vectors.json, by an implementation that shares nothing with ours."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from receipt_vectors import FILE, text

from shares.receipts import root_of_path

VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
LEAVES = [bytes.fromhex(leaf["hash"]) for leaf in VECTORS["leaves"]]


def test_the_file_is_what_the_code_gives() -> None:
    """``python tests/shares/receipt_vectors.py`` writes it anew."""
    assert FILE.read_text(encoding="utf-8") == text()


@pytest.mark.parametrize("leaf", VECTORS["leaves"], ids=lambda leaf: leaf["lease"])
def test_a_leaf_hashes_as_written(leaf: dict[str, Any]) -> None:
    """By the bytes that docs/RECEIPTS.md states."""
    data = b"\x00" + b"inferpool.leaf.1"
    for name, size in (("lease", 8), ("part", 4), ("rows", 4), ("work", 8), ("at", 8)):
        data += leaf[name].to_bytes(size, "big")
    data += bytes.fromhex(leaf["digest"]) + leaf["account"].encode()

    assert sha256(data).hexdigest() == leaf["hash"]


def _node(hashes: list[bytes]) -> bytes:
    """RFC 6962, 2.1: split at the largest power of two below the number of leaves."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + _node(hashes[:half]) + _node(hashes[half:])).digest()


def _audit_path(place: int, hashes: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(hashes) == 1:
        return []
    half = 1 << (len(hashes) - 1).bit_length() - 1
    if place < half:
        return [*_audit_path(place, hashes[:half]), _node(hashes[half:])]
    return [*_audit_path(place - half, hashes[half:]), _node(hashes[:half])]


@pytest.mark.parametrize("tree", VECTORS["trees"], ids=lambda tree: len(tree["leaves"]))
def test_a_tree_is_that_of_the_rfc(tree: dict[str, Any]) -> None:
    hashes = [LEAVES[number] for number in tree["leaves"]]

    assert _node(hashes).hex() == tree["root"]
    for place, path in enumerate(tree["paths"]):
        assert [one.hex() for one in _audit_path(place, hashes)] == path
        siblings = [bytes.fromhex(one) for one in path]
        assert root_of_path(hashes[place], place, len(hashes), siblings) == _node(hashes)


def test_roots_are_signed_and_chained() -> None:
    """The message is over the one before; one flipped bit and the signature does not hold."""
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(VECTORS["public_key"]))
    previous = bytes(32)
    for number, (root, tree) in enumerate(zip(VECTORS["roots"], VECTORS["trees"], strict=True), 1):
        assert (root["sequence"], root["leaves"]) == (number, len(tree["leaves"]))
        assert root["root"] == tree["root"]
        assert root["previous"] == previous.hex()
        message = b"\x02" + b"inferpool.root.1"
        for name, size in (("sequence", 8), ("leaves", 4), ("at", 8)):
            message += root[name].to_bytes(size, "big")
        message += bytes.fromhex(root["root"]) + previous
        assert message.hex() == root["message"]
        key.verify(bytes.fromhex(root["signature"]), message)
        with pytest.raises(InvalidSignature):
            key.verify(bytes.fromhex(root["signature"]), bytes([message[0] ^ 1]) + message[1:])
        previous = sha256(message).digest()


@pytest.mark.parametrize("claim", VECTORS["refused"], ids=lambda claim: claim["why"])
def test_a_wrong_claim_leads_to_no_root(claim: dict[str, Any]) -> None:
    path = [bytes.fromhex(one) for one in claim["path"]]
    found = root_of_path(LEAVES[claim["leaf"]], claim["index"], claim["leaves"], path)

    assert found is None or found.hex() != claim["root"]

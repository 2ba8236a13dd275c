"""A Merkle tree of claims (address, amount), as OpenZeppelin's ``StandardMerkleTree`` makes it.

A contract that knows the root pays whoever brings an amount and its proof (OpenZeppelin's
``MerkleProof.verify``), so one transaction settles for thousands of accounts, in any token. The
format is that of the npm package ``@openzeppelin/merkle-tree``, ``standard-v1``, with the leaf
types ``address`` and ``uint256``: a leaf is the Keccak-256 of the Keccak-256 of the two values'
ABI encoding (twice, so that no inner node can pass for a leaf); leaves are sorted by their hashes
and fill a complete binary tree from its last place backwards; an inner node is the Keccak-256 of
its two children, the smaller one first, so that a proof needs no directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shares.money.addresses import check
from shares.money.keccak import keccak256

_TOP = 1 << 256


class ClaimTree:
    """The tree over {address: amount}, amounts in the token's smallest unit."""

    def __init__(self, amounts: Mapping[str, int]) -> None:
        """Raises ``ValueError`` for no claims, two for one address, and amounts out of range."""
        if not amounts:
            raise ValueError("a claim tree needs at least one claim")
        self._values = [(check("evm", address), amount) for address, amount in amounts.items()]
        if len({address for address, _ in self._values}) < len(self._values):
            raise ValueError("two claims are of one address: add them up")
        hashes = [leaf(address, amount) for address, amount in self._values]
        order = sorted(range(len(hashes)), key=hashes.__getitem__)
        size = 2 * len(hashes) - 1
        self._tree = [b""] * size
        self._places = [0] * len(hashes)  # of each value's leaf
        for rank, value in enumerate(order):
            self._places[value] = size - 1 - rank
            self._tree[size - 1 - rank] = hashes[value]
        for place in range(size - 1 - len(hashes), -1, -1):
            self._tree[place] = _node(self._tree[2 * place + 1], self._tree[2 * place + 2])
        self._by_address = {address: i for i, (address, _) in enumerate(self._values)}

    @property
    def root(self) -> bytes:
        """What the contract is told: 32 bytes."""
        return self._tree[0]

    def proof(self, address: str) -> list[bytes]:
        """The nodes beside the way from the claim to the root. Raises ``KeyError``."""
        place = self._places[self._by_address[check("evm", address)]]
        beside = []
        while place > 0:
            beside.append(self._tree[place - 1 if place % 2 == 0 else place + 1])
            place = (place - 1) // 2
        return beside

    def dump(self) -> dict[str, Any]:
        """For ``StandardMerkleTree.load``."""
        return {
            "format": "standard-v1",
            "leafEncoding": ["address", "uint256"],
            "tree": ["0x" + node.hex() for node in self._tree],
            "values": [
                {"value": [address, str(amount)], "treeIndex": place}
                for (address, amount), place in zip(self._values, self._places, strict=True)
            ],
        }


def leaf(address: str, amount: int) -> bytes:
    """A claim's hash, 32 bytes. Raises ``ValueError`` unless ``0 < amount < 2**256``."""
    if not 0 < amount < _TOP:
        raise ValueError(f"amount of {address} must be from 1 to 2^256 - 1, not {amount}")
    encoded = bytes.fromhex(check("evm", address)[2:]).rjust(32, b"\0") + amount.to_bytes(32, "big")
    return keccak256(keccak256(encoded))


def verify(root: bytes, address: str, amount: int, proof: Sequence[bytes]) -> bool:
    """Whether a contract that knows ``root`` would pay this claim."""
    node = leaf(address, amount)
    for beside in proof:
        node = _node(node, beside)
    return node == root


def _node(one: bytes, other: bytes) -> bytes:
    return keccak256(min(one, other) + max(one, other))

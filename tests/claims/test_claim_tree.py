"""Claim trees are those of the npm package ``@openzeppelin/merkle-tree``, bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from shares.money.addresses import checksummed
from shares.money.claimtree import ClaimTree, verify

HERE = Path(__file__).parent
PEER = HERE / "node_modules" / "@openzeppelin" / "merkle-tree"
TREES: list[dict[str, Any]] = json.loads((HERE / "vectors.json").read_text())
ADDRESSES = st.binary(min_size=20, max_size=20).filter(any).map(checksummed)
CLAIMS = st.dictionaries(ADDRESSES, st.integers(1, 2**256 - 1), min_size=1, max_size=40)


def compare(theirs: dict[str, Any]) -> None:
    claims = {address: int(amount) for address, amount in theirs["values"]}
    tree = ClaimTree(claims)
    assert "0x" + tree.root.hex() == theirs["root"]
    assert tree.dump() == theirs["dump"]
    for address, proof in zip(claims, theirs["proofs"], strict=True):
        assert ["0x" + node.hex() for node in tree.proof(address)] == proof


@pytest.mark.parametrize("number", range(len(TREES)))
def test_roots_proofs_and_dumps_equal_the_packages(number: int) -> None:
    """``vectors.json`` is what version 1.0.8 makes (see ``peer.mjs``)."""
    compare(TREES[number])


def test_the_root_in_the_packages_own_description() -> None:
    tree = ClaimTree({"0x" + "11" * 20: 5 * 10**18, "0x" + "22" * 20: 25 * 10**17})
    assert tree.root.hex() == "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"


@pytest.mark.skipif(
    not PEER.exists() or shutil.which("node") is None,
    reason="make claims-peer installs the package that trees are compared with (needs npm)",
)
def test_fresh_trees_equal_the_packages() -> None:
    """The package itself runs beside us, on claims that nobody has seen before."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    lists = [
        [[checksummed(dice.randbytes(20)), str(dice.randrange(1, 2**96))] for _ in range(count)]
        for count in (1, 4, 17, 250)
    ]
    done = subprocess.run(
        ["node", str(HERE / "peer.mjs")],
        input=json.dumps(lists),
        capture_output=True,
        text=True,
        check=True,
    )
    for theirs in json.loads(done.stdout):
        compare(theirs)


@settings(max_examples=60, deadline=None)
@given(CLAIMS, st.integers(1, 2**256 - 1), st.randoms(use_true_random=False))
def test_only_what_was_claimed_is_proved(
    claims: dict[str, int], other: int, dice: random.Random
) -> None:
    tree = ClaimTree(claims)
    for address, amount in claims.items():
        proof = tree.proof(address)
        assert verify(tree.root, address, amount, proof)
        assert verify(tree.root, address, other, proof) == (other == amount)
        stranger = checksummed(bytes(19) + b"\1")
        assert stranger in claims or not verify(tree.root, stranger, amount, proof)
    shuffled = list(claims.items())
    dice.shuffle(shuffled)
    assert ClaimTree(dict(shuffled)).root == tree.root


def test_what_is_no_claim_is_refused() -> None:
    address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    with pytest.raises(ValueError, match="at least one"):
        ClaimTree({})
    for amount in (0, -1, 2**256):
        with pytest.raises(ValueError, match="amount"):
            ClaimTree({address: amount})
    with pytest.raises(ValueError, match="add them up"):
        ClaimTree({address: 1, address.lower(): 2})
    with pytest.raises(ValueError, match="40 hex digits"):
        ClaimTree({"alice": 1})

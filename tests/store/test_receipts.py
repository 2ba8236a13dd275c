"""Receipts: what was accepted can be proved later, and any change of it is found."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from bookmaker import Bookmaker
from click.testing import CliRunner
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pool.cli import cli
from pool.crashpoints import crash_point
from pool.store import Group, Store, commit, commit_group
from pool.store.database import StoreError
from pool.store.receipts import receipts_after, roots_after
from shares.blocks import Kind, Segment
from shares.board.effects import Won
from shares.receipts import (
    Leaf,
    Pay,
    Receipt,
    SignedRoot,
    check,
    check_delivered,
    check_pay,
    receipt_from_json,
    receipt_json,
    root_json,
    root_of_path,
    tree_paths,
    tree_root,
)


def verifier(store: Store):
    key = Ed25519PublicKey.from_public_bytes(store.signer.public_key)

    def holds(signature: bytes, message: bytes) -> bool:
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return holds


def kept(store: Store, account: str = "alice") -> tuple[list[Receipt], list[SignedRoot]]:
    with store.database.read() as connection:
        receipts, following = receipts_after(connection, account, 0, 100)
        assert following is None
        return receipts, roots_after(connection, 0, 100)


def group_of(books: Bookmaker, rigs: list[str]) -> None:
    """One part of two rows for each rig, all in one commit group."""
    records, payloads = [], {}
    for n, rig in enumerate(rigs):
        start = books.next_lease * 2
        lease = books.lease(rig, Segment(1, 0, start, start + 2, Kind.ROW))
        part, bytes_of = books.part_records(lease, 0, 0, [Won(1, 0, start, start + 2, 0)])
        records += [part, books.credit(lease, rig, 1, 10 + n)]
        payloads |= bytes_of
    commit_group(books.store, Group(records, payloads))


@pytest.fixture
def three_groups(books: Bookmaker) -> Bookmaker:
    books.job()
    group_of(books, ["alice.a", "bob.b", "alice.c", "bob.d", "alice.e"])
    group_of(books, ["alice.a"])
    group_of(books, ["bob.b", "alice.a"])
    return books


@pytest.mark.parametrize("size", range(1, 18))
def test_every_path_leads_to_the_root_and_to_no_other(size: int) -> None:
    hashes = [bytes([n]) * 32 for n in range(size)]
    root = tree_root(hashes)
    for index, path in enumerate(tree_paths(hashes, range(size))):
        assert root_of_path(hashes[index], index, size, path) == root
        assert root_of_path(b"x" * 32, index, size, path) != root
        assert root_of_path(hashes[index], index, size, (*path, root)) is None
        if path:
            assert root_of_path(hashes[index], index, size, path[1:]) != root
    assert root_of_path(hashes[0], size, size, ()) is None


def test_what_is_kept_holds_and_adds_up(three_groups: Bookmaker) -> None:
    receipts, roots = kept(three_groups.store)
    found = check(receipts + receipts[:1], roots, verifier(three_groups.store))

    assert found.failures == []
    assert [one.root.sequence for one in roots] == [1, 2, 3]
    assert found.totals == {"alice": (10, 10 + 12 + 14 + 10 + 11)}
    assert [receipt_from_json(receipt_json(one)) for one in receipts] == receipts


@pytest.mark.parametrize("name", ["lease", "part", "rows", "work", "at", "digest", "account"])
def test_a_changed_leaf_is_named(three_groups: Bookmaker, name: str) -> None:
    receipts, roots = kept(three_groups.store)
    leaf = receipts[1].leaf
    old = getattr(leaf, name)
    new = {"digest": b"x" * 32, "account": "mallory"}.get(name) or old + 1
    receipts[1] = replace(receipts[1], leaf=replace(leaf, **{name: new}))
    (failure,) = check(receipts, roots, verifier(three_groups.store)).failures

    assert "leaf and path do not lead to its root" in failure


def test_changed_paths_roots_and_signatures_are_found(three_groups: Bookmaker) -> None:
    receipts, roots = kept(three_groups.store)
    verify = verifier(three_groups.store)
    first = receipts[0]
    other_path = replace(first, path=(bytes(32), *first.path[1:]))
    moved = replace(first, index=1)
    other_root = replace(roots[1], root=replace(roots[1].root, root=bytes(32)))
    unsigned = replace(roots[1], signature=bytes(64))

    assert len(check([other_path], roots, verify).failures) == 1
    assert len(check([moved], roots, verify).failures) == 1
    assert check([], [roots[0], other_root, roots[2]], verify).failures == [
        "root 2: the signature is wrong",
        "root 3: does not follow from the one before",
    ]
    assert check([], [roots[0], unsigned, roots[2]], verify).failures == [
        "root 2: the signature is wrong"
    ]


def test_a_dropped_root_is_found(three_groups: Bookmaker) -> None:
    receipts, roots = kept(three_groups.store)
    verify = verifier(three_groups.store)
    middle = check(receipts, [roots[0], roots[2]], verify).failures
    last = check(receipts, roots[:2], verify).failures

    assert middle[0] == "root 2: missing, 3 comes in its place"
    assert any("not among the published" in one for one in middle[1:])
    assert len(last) == 1


def test_a_second_signed_root_in_the_place_of_one_is_found(three_groups: Bookmaker) -> None:
    receipts, roots = kept(three_groups.store)
    forged = replace(roots[2].root, root=b"y" * 32)
    forged_signed = SignedRoot(forged, three_groups.store.signer.sign(forged.message()))
    found = check(receipts, [*roots[:2], forged_signed], verifier(three_groups.store))

    assert "another root is published" in found.failures[0]


def test_a_restart_goes_on_with_the_chain_and_the_key(
    three_groups: Bookmaker, tmp_path: Path
) -> None:
    store = three_groups.store
    file = store.folder / "receipts.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store.close()
    three_groups.store = Store.open(store.folder)
    three_groups.store.claim()
    try:
        group_of(three_groups, ["alice.a"])
        receipts, roots = kept(three_groups.store)
        assert check(receipts, roots, verifier(store)).failures == []
        assert len(roots) == 4
    finally:
        three_groups.store.close()
    file.unlink()
    with pytest.raises(StoreError, match=r"receipts\.key is missing"):
        Store.open(store.folder)


def test_a_group_that_dies_before_its_commit_leaves_no_root_and_after_it_all(
    three_groups: Bookmaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_at(name: str):
        def point(reached: str) -> None:
            crash_point(reached)
            if reached == name:
                raise KeyboardInterrupt

        return point

    for name, roots_then in (("store.before_commit", 3), ("store.committed", 4)):
        lease = three_groups.lease("alice.a", Segment(1, 0, 80, 82, Kind.ROW))
        part, payloads = three_groups.part_records(lease, 0, 0, [Won(1, 0, 80, 82, 0)])
        with monkeypatch.context() as patched:
            patched.setattr(commit, "crash_point", die_at(name))
            with pytest.raises(KeyboardInterrupt):
                commit_group(three_groups.store, Group([part], payloads))
        receipts, roots = kept(three_groups.store)
        assert len(roots) == roots_then
        assert check(receipts, roots, verifier(three_groups.store)).failures == []


LEAVES = [
    Leaf(1, 0, 10, 100, 0, bytes(32), "alice"),
    Leaf(1, 1, 5, 50, 0, bytes(32), "alice"),
]


def test_pay_must_be_at_least_what_the_leaves_say() -> None:
    """What is credited later comes on top."""
    pays = [
        Pay(1, 0, 100, 3, 300, "cleared"),
        Pay(1, 1, 20, 3, 60, "cleared"),
        Pay(1, 1, 30, 2, 60, "pending"),
        Pay(1, 1, 7, 2, 14, "pending"),
    ]
    failures: list[str] = []

    assert check_pay(LEAVES, pays, failures) == {"cleared": 360, "pending": 74}
    assert failures == []
    check_pay(LEAVES, pays[:2], failures)
    assert failures == ["lease 1 part 1: 20 of work is credited, its leaf says 50"]
    failures.clear()
    check_pay(LEAVES, [*pays, Pay(2, 0, 10, 3, 29, "pending")], failures)
    assert failures == ["lease 2 part 0: 29 units for 10 of work at 3 each, not 30"]


def test_what_was_delivered_must_have_its_leaf() -> None:
    """A pool that drops an acknowledged part is found by the rig that noted it."""
    failures: list[str] = []

    assert check_delivered(LEAVES, [(1, 0, 10), (1, 0, 10), (1, 1, 5)], failures) == 2
    assert failures == []
    check_delivered(LEAVES, [(1, 0, 9), (2, 0, 1)], failures)
    assert [failure.partition(":")[0] for failure in failures] == [
        "lease 1 part 0",
        "lease 2 part 0",
    ]


def test_a_folder_of_a_rig_is_read_whole(three_groups: Bookmaker, tmp_path: Path) -> None:
    """Receipts and what was delivered; a part without its receipt is named."""
    receipts, roots = kept(three_groups.store)
    key = three_groups.store.signer.public_key.hex()
    folder = tmp_path / "kept" / "pool_3333"
    folder.mkdir(parents=True)
    page = {"public_key": key, "data": [receipt_json(one) for one in receipts]}
    (folder / "alice.a.receipts.jsonl").write_text(json.dumps(page) + "\n")
    parts = [{"lease": r.leaf.lease, "part": r.leaf.part, "rows": r.leaf.rows} for r in receipts]
    delivered = folder / "alice.a.delivered.jsonl"
    delivered.write_text(json.dumps({"data": parts}) + "\n")
    published = tmp_path / "roots.json"
    published.write_text(json.dumps({"public_key": key, "data": [root_json(r) for r in roots]}))
    good = CliRunner().invoke(cli, ["verify", str(folder), "--roots", str(published)])
    with delivered.open("a") as file:
        file.write(json.dumps({"data": [{"lease": 99, "part": 0, "rows": 2}]}) + "\n")
    bad = CliRunner().invoke(cli, ["verify", str(folder), "--roots", str(published)])
    above = CliRunner().invoke(cli, ["verify", str(tmp_path / "kept"), "--roots", str(published)])

    assert good.exit_code == 0, good.output
    assert f"{len(receipts)} parts were delivered from here" in good.output
    assert bad.exit_code == 1
    assert "FAILED  lease 99 part 0: was acknowledged, and has no receipt here" in bad.output
    assert above.exit_code == 1
    assert "name one of the folders in it: pool_3333" in above.output


def test_the_command_names_what_fails(three_groups: Bookmaker, tmp_path: Path) -> None:
    receipts, roots = kept(three_groups.store)
    key = three_groups.store.signer.public_key.hex()
    pages = [{"public_key": key, "data": [receipt_json(one)]} for one in receipts]
    own, published = tmp_path / "receipts.json", tmp_path / "roots.json"
    own.write_text("".join(json.dumps(page) for page in pages))
    published.write_text(json.dumps({"public_key": key, "data": [root_json(r) for r in roots]}))
    arguments = ["verify", str(own), "--roots", str(published)]
    good = CliRunner().invoke(cli, [*arguments, "--json"])
    pages[0]["data"][0]["work"] += 1
    own.write_text("\n".join(json.dumps(page) for page in pages))
    bad = CliRunner().invoke(cli, arguments)
    other_key = CliRunner().invoke(cli, [*arguments, "--public-key", "00" * 32])

    assert good.exit_code == 0, good.output
    assert json.loads(good.output)["accounts"] == {"alice": {"rows": 10, "work": 57}}
    assert bad.exit_code == 1
    assert "FAILED  lease 1 part 0 of alice (root 1)" in bad.output
    assert other_key.exit_code == 1

"""Payouts as documents: what stands in them is what was handed over, and nothing else."""

from __future__ import annotations

import csv
import io
import json

import pytest
from far_side import TERMS, miner, payouts_in, states_of

from pool.payouts.documents import Documents
from pool.payouts.office import approve
from pool.payouts.policies import Case, Decision
from pool.payouts.rounds import Terms, pay_round
from pool.payouts.sending import look_up_due, send_due
from pool.store import Store
from pool.store.payees import set_payout_address
from shares.money.claimtree import verify

ONE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


def names(store: Store) -> list[str]:
    return [name for name, _ in store.objects.list("payouts")]


def test_a_treasurer_gets_a_round_as_a_table(store: Store) -> None:
    miner(store, "alice", 1_000, "IBAN DE89, Musterbank")
    miner(store, "bob", 2_000)
    pay_round(store.database, TERMS, 10.0)
    send_due(store.database, Documents(store.objects, "csv", 10), 10.0)

    assert names(store) == ["payouts/1-1.csv"]
    text = store.objects.get("payouts/1-1.csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["account"], row["address"], row["amount"]) for row in rows] == [
        ("alice", "IBAN DE89, Musterbank", "10000"),
        ("bob", "IBAN 1", "20000"),
    ]
    assert {row["key"] for row in rows} == {payout.key for payout in payouts_in(store)}
    assert set(states_of(store).values()) == {"submitted"}


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_document_is_the_evidence(store: Store, form: str) -> None:
    """It was written and nobody lived to note it: it is not written again."""
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    carrier = Documents(store.objects, form, 1)

    class Dies(Documents):
        def submit(self, payouts):  # type: ignore[no-untyped-def]
            super().submit(payouts)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send_due(store.database, Dies(store.objects, form, 1), 10.0)
    assert states_of(store) == {"alice": "submitting"}
    for hour in range(3):
        look_up_due(store.database, carrier, 4_000.0 * (hour + 1))
        send_due(store.database, carrier, 4_000.0 * (hour + 1))
    assert names(store) == [f"payouts/1-1.{form}"]
    (payout,) = payouts_in(store)
    assert (payout.state, payout.document) == ("submitted", f"payouts/1-1.{form}")


def test_a_document_that_cannot_be_read_proves_nothing(store: Store) -> None:
    miner(store, "alice", 1_000)
    pay_round(store.database, TERMS, 10.0)
    carrier = Documents(store.objects, "json", 1)
    send_due(store.database, carrier, 10.0)
    (payout,) = payouts_in(store)
    store.objects.put("payouts/1-1.json", b'{"object": "pay')
    assert type(carrier.look_up(payout)).__name__ == "Unknown"


def test_two_that_hand_over_at_once_write_two_documents(store: Store) -> None:
    """A command beside a running pool: neither overwrites what the other has promised."""
    for name in ("alice", "bob"):
        miner(store, name, 1_000)
    pay_round(store.database, TERMS, 10.0)
    one, other = payouts_in(store)
    carrier = Documents(store.objects, "json", 1)
    for payout in (one, other):
        carrier.submit([payout])
    assert names(store) == ["payouts/1-1.json", "payouts/1-2.json"]
    assert all(type(carrier.look_up(payout)).__name__ == "Taken" for payout in (one, other))


def test_what_is_approved_later_comes_in_a_further_document(store: Store) -> None:
    def look(case: Case) -> Decision:
        return Decision("hold" if case.account == "bob" else "allow", "look")

    miner(store, "alice", 1_000)
    miner(store, "bob", 2_000)
    pay_round(store.database, Terms("text", 100, [("look", look)]), 10.0)
    carrier = Documents(store.objects, "json", 1)
    send_due(store.database, carrier, 10.0)
    (held,) = (payout for payout in payouts_in(store) if payout.account == "bob")
    approve(store.database, str(held.id), 20.0)
    send_due(store.database, carrier, 20.0)

    assert names(store) == ["payouts/1-1.json", "payouts/1-2.json"]
    second = json.loads(store.objects.get("payouts/1-2.json"))
    assert [row["account"] for row in second["data"]] == ["bob"]


def test_one_root_pays_everybody_of_a_round(store: Store) -> None:
    """Two accounts at one address are one claim of both amounts."""
    for name, units in (("alice", 1_000), ("bob", 2_000), ("carl", 4_000)):
        miner(store, name, units, None)
    for name, address in (("alice", ONE), ("bob", OTHER), ("carl", ONE)):
        set_payout_address(store.database, name, "evm", address, 2.0, hold_seconds=0.0)
    pay_round(store.database, Terms("evm", 100), 10.0)
    send_due(store.database, Documents(store.objects, "claims", 10**12), 10.0)

    (name,) = names(store)
    claims = json.loads(store.objects.get(name))
    assert name == "payouts/1-1.claims.json"
    assert claims["total"] == str(7_000 * 10**12)
    assert claims["tree"]["tree"][0] == claims["root"]
    root = bytes.fromhex(claims["root"][2:])
    for address, units in ((ONE, 5_000), (OTHER, 2_000)):
        claim = claims["proofs"][address]
        assert int(claim["amount"]) == units * 10**12
        proof = [bytes.fromhex(node[2:]) for node in claim["proof"]]
        assert verify(root, address, units * 10**12, proof)
    assert len(claims["data"]) == 3

"""Where a miner is paid, and what it was paid, over HTTP with its two tokens."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from customer_side import CONFIG, Served, client_of, open_customer_side

from pool.config import PayoutsConfig
from pool.payouts.documents import Documents
from pool.payouts.rounds import Terms, pay_round
from pool.payouts.sending import send_due
from pool.store.accounts import renew_payout_token
from pool.store.ledger import post
from shares.money.claimtree import verify

ONE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
ME = "/api/v1/accounts/me/payout"
EVM = msgspec.structs.replace(CONFIG, payouts=PayoutsConfig(address="evm", carrier="claims"))


def payout_key(side: Served) -> str:
    return renew_payout_token(side.store.database, "miner", side.clock.now())


async def test_only_the_payout_token_says_where_a_miner_is_paid(tmp_path: Path) -> None:
    """The token that lies on every rig reads, and cannot lead the pay elsewhere."""
    async with open_customer_side(tmp_path, EVM) as side:
        key = payout_key(side)
        async with client_of(side, side.miner_key) as rig, client_of(side, key) as owner:
            refused = await rig.put(ME, json={"address": ONE})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "wrong_scope")
            assert "payout token" in refused.json()["error"]["message"]
            assert side.told == []
            set_ = await owner.put(ME, json={"address": ONE.lower(), "minimum": 5_000_000})
            assert set_.status_code == 200, set_.text
            for client in (rig, owner):
                found = (await client.get(ME)).json()
                assert found == set_.json()
            assert (found["address"], found["kind"], found["minimum"]) == (ONE, "evm", 5_000_000)
            # For everything else the payout token is no key at all.
            for path in ("/api/v1/accounts/me/receipts", "/v1/models"):
                assert (await owner.get(path)).status_code == 401


async def test_a_change_is_held_and_the_rigs_are_told(tmp_path: Path) -> None:
    async with (
        open_customer_side(tmp_path, EVM) as side,
        client_of(side, payout_key(side)) as owner,
    ):
        first = (await owner.put(ME, json={"address": ONE})).json()
        assert first["usable_at"] <= side.clock.now()
        second = (await owner.put(ME, json={"address": OTHER})).json()
        assert second["usable_at"] > side.clock.now() + 86_000
        again = (await owner.put(ME, json={"address": OTHER, "minimum": 7})).json()
        assert again["usable_at"] == second["usable_at"]
    assert [account for account, _ in side.told] == ["miner", "miner"]
    assert OTHER in side.told[1][1]
    assert "if that was not you" in side.told[1][1]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"address": "0x12"}, "invalid_value", "address"),
        ({"address": ONE.replace("A", "a", 1)}, "invalid_value", "address"),
        ({"address": 7}, "invalid_value", "address"),
        ({"minimum": -1}, "invalid_value", "minimum"),
        ({"minimum": 2**80}, "invalid_value", "minimum"),
        ({"minimum": True}, "invalid_value", "minimum"),
        ({}, "invalid_value", "address"),
        ({"adress": ONE}, "unknown_parameter", "adress"),
    ],
)
async def test_what_cannot_be_set_is_named(
    tmp_path: Path, body: dict[str, object], code: str, param: str
) -> None:
    async with (
        open_customer_side(tmp_path, EVM) as side,
        client_of(side, payout_key(side)) as owner,
    ):
        answer = await owner.put(ME, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
        assert (await owner.get(ME)).json()["address"] is None


async def test_a_miner_sees_its_payouts_and_can_prove_its_claim(tmp_path: Path) -> None:
    async with open_customer_side(tmp_path, EVM) as side:
        database = side.store.database
        with database.write() as connection:
            post(connection, "earned", "1", (("external", -900), ("available:miner", 900)), 1.0)
        async with client_of(side, payout_key(side)) as owner:
            assert (await owner.get(ME + "s")).json()["data"] == []
            pay_round(database, Terms("evm", 100), side.clock.now())
            assert "no payout address" in (await owner.get(ME)).json()["waiting"]
            await owner.put(ME, json={"address": ONE})
            now = side.clock.now()
            pay_round(database, Terms("evm", 100), now)
            send_due(database, Documents(side.store.objects, "claims", 3), now)
            found = (await owner.get(ME + "s", params={"limit": 1})).json()
            assert (await owner.get(ME)).json()["waiting"] is None
            me = (await owner.get("/api/v1/accounts/me")).status_code
        assert me == 401, "not a payout's affair"
        (payout,) = found["data"]
        assert (payout["units"], payout["state"], payout["address"]) == (900, "submitted", ONE)
        claim = payout["claim"]
        assert claim["amount"] == "2700"
        proof = [bytes.fromhex(node[2:]) for node in claim["proof"]]
        assert verify(bytes.fromhex(claim["root"][2:]), ONE, 2_700, proof)


async def test_customers_are_not_paid(tmp_path: Path) -> None:
    async with open_customer_side(tmp_path, EVM) as side, client_of(side) as client:
        for answer in (
            await client.get(ME),
            await client.put(ME, json={"minimum": 1}),
            await client.get(ME + "s"),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_role")

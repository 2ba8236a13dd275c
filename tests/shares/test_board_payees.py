"""Accounts with one payout address are one person's: they do not check one another."""

from __future__ import annotations

import pytest
from driver import House

from shares.board import Policy

POLICY = Policy(min_difficulty=100, initial_difficulty=1_000, check_floor_ppm=1_000_000)


@pytest.mark.parametrize(
    ("address", "by_rigs"), [(("shared",), False), (("old", "shared"), False), (("own",), True)]
)
def test_checks_go_to_accounts_that_are_paid_elsewhere(
    address: tuple[str, ...], *, by_rigs: bool
) -> None:
    """An address that one of them left lately counts, too; the referee does what nobody may."""
    house = House(POLICY)
    house.established("anna")
    house.established("twin")
    anna = house.connect("anna", payees=("shared",))
    twin = house.connect("twin", payees=address)
    house.open_job(rows=60, check_budget=10**6)
    house.work(anna, twin)

    checkers = {ended.checker for ended in house.ended.values()}
    assert checkers == ({"anna.r", "twin.r"} if by_rigs else {"referee"})


def test_an_offence_raises_the_checks_of_who_is_paid_at_the_same_address() -> None:
    """And bans nobody for it: anybody can name an address."""
    policy = Policy(min_difficulty=100, initial_difficulty=1_000, check_floor_ppm=10_000)
    house = House(policy)
    house.established("twin")
    house.established("stranger")
    cheat = house.connect("cheat", payees=("shared",))
    house.connect("twin", payees=("shared",))
    house.connect("stranger", payees=("own",))
    house.open_job(rows=600, check_budget=10**6)
    house.submit(cheat, wrong={0, 1})
    for account in ("twin", "stranger"):
        house.submit(house.rigs[account, "r"])

    assert house.trust["cheat", "r"].offences == 1
    why = {
        share.issued.account: share.parts[-1].why for share in house.shares.values() if share.parts
    }
    assert (why["twin"], why["stranger"]) == ("neighbour", "held")
    assert house.rigs["twin", "r"].session is not None

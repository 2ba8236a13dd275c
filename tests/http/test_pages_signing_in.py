"""Signing in to the pages: what the browser keeps, who is let in, and how it ends."""

from __future__ import annotations

import pytest
from customer_side import Served
from page_visitor import Visitor, alert_of, operator_token
from sqlalchemy import select, update

from pool.accounts import new_token, token_hash
from pool.config import Config, HttpConfig
from pool.store import schema
from pool.store.accounts import mark_closed, renew_payout_token
from pool.store.pagesessions import SESSION_SECONDS, open_session, session_account


async def test_the_session_is_out_of_reach_of_scripts_and_other_sites(served: Served) -> None:
    async with Visitor(served) as visitor:
        answer = await visitor.sign_in(served.key)
        (cookie,) = [line for line in answer.headers.get_list("set-cookie") if "-session=" in line]
        secret = visitor.client.cookies["inferpool-session"]
    assert answer.headers["location"] == "/account"
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # this side is not behind TLS
    assert served.key not in cookie
    with served.store.database.read() as connection:
        kept = connection.execute(select(schema.page_session)).one()
    assert secret not in str(kept)
    assert token_hash(secret) == kept.id_hash


@pytest.mark.parametrize("config", [Config(http=HttpConfig(public_url="https://pool.example"))])
async def test_behind_tls_the_cookie_is_for_this_host_and_tls_only(
    served: Served, config: Config
) -> None:
    async with Visitor(served) as visitor:
        answer = await visitor.get("/signin")
    (cookie,) = answer.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-inferpool-form=")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


async def test_a_wrong_token_opens_nothing_and_says_what_to_do(served: Served) -> None:
    payout = renew_payout_token(served.store.database, "miner", served.clock.now())
    async with Visitor(served) as visitor:
        wrong = await visitor.send("/signin", "/signin", token=new_token())
        payouts = await visitor.send("/signin", "/signin", token=payout)
        empty = await visitor.send("/signin", "/signin")
        account = await visitor.get("/account")
    assert [one.status_code for one in (wrong, payouts, empty)] == [401] * 3
    assert "ask the operator" in alert_of(wrong)
    assert "payout token" in alert_of(payouts)
    assert account.headers["location"] == "/signin?then=/account"


async def test_a_session_ends_with_its_time_its_token_its_account_and_by_wish(
    served: Served,
) -> None:
    database, now = served.store.database, served.clock.now()

    def who(secret: str, at: float = now) -> str | None:
        with database.read() as connection:
            account = session_account(connection, secret, at)
        return account and account.name

    def opened(token: str) -> str:
        found = open_session(database, token, now)
        assert found is not None
        return found[1]

    timed, other, left = opened(served.key), opened(served.poor_key), opened(served.miner_key)
    assert (who(timed), who(other), who(left)) == ("rich", "poor", "miner")
    assert who(timed, now + SESSION_SECONDS) is None
    assert who(timed[:-1]) is None
    with database.write() as connection:
        account = schema.account
        connection.execute(
            update(account)
            .where(account.c.name == "poor")
            .values(token_hash=token_hash(new_token()))
        )
        mark_closed(connection, "miner", now)
    assert who(other) is None
    assert who(left) is None
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.key)
        secret = visitor.client.cookies["inferpool-session"]
        assert who(secret) == "rich"
        await visitor.send("/account", "/signout")
        assert who(secret) is None
        assert (await visitor.get("/account")).status_code == 303


async def test_an_account_has_so_many_sessions_and_the_oldest_makes_room(served: Served) -> None:
    database, now = served.store.database, served.clock.now()
    secrets = []
    for number in range(40):
        found = open_session(database, served.key, now + number)
        assert found is not None
        secrets.append(found[1])
    with database.read() as connection:
        alive = [session_account(connection, one, now + 41) is not None for one in secrets]
    assert alive == [False] * 8 + [True] * 32


async def test_signing_in_leads_back_but_never_to_another_site(served: Served) -> None:
    async with Visitor(served) as visitor:
        page = (await visitor.get("/signin?then=/batches/batch_1")).text
        assert 'name="then" value="/batches/batch_1"' in page
        for path in ("//evil.example", "https://evil.example", "/\\evil", "/a?b"):
            sent = await visitor.send("/signin", "/signin", token=served.key, then=path)
            assert sent.headers["location"] == "/account", path
            await visitor.send("/account", "/signout")
        sent = await visitor.send("/signin", "/signin", token=served.key, then="/batches/batch_1")
        assert sent.headers["location"] == "/batches/batch_1"


async def test_roles_see_their_own_pages_only(served: Served) -> None:
    tokens = {"customer": served.key, "miner": served.miner_key, "operator": operator_token(served)}
    allowed = {
        "customer": {"/account": 200, "/operator": 403, "/rigs/miner.rig1": 403, "/shares/1": 403},
        "miner": {"/account": 200, "/operator": 403, "/rigs/miner.rig1": 200, "/shares/1": 404},
        "operator": {"/account": 303, "/operator": 200, "/rigs/miner.rig1": 200, "/shares/1": 404},
    }
    for role, token in tokens.items():
        async with Visitor(served) as visitor:
            await visitor.sign_in(token)
            for path, status in allowed[role].items():
                answer = await visitor.get(path)
                assert answer.status_code == status, (role, path, answer.text)
    async with Visitor(served) as visitor:
        for path in allowed["operator"]:
            answer = await visitor.get(path)
            assert answer.headers["location"] == f"/signin?then={path}"


async def test_the_key_of_the_api_does_not_open_pages_nor_the_cookie_the_api(
    served: Served,
) -> None:
    """A cookie goes along by itself, so it must not open what takes no form token."""
    async with Visitor(served) as visitor:
        bearer = {"authorization": f"Bearer {served.key}"}
        assert (await visitor.get("/account", headers=bearer)).status_code == 303
        await visitor.sign_in(served.key)
        assert (await visitor.get("/v1/batches")).status_code == 401
        assert (await visitor.get("/api/v1/accounts/me")).status_code == 401

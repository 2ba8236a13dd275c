"""What an account wants to hear of, over HTTP; and alerts that are passed on."""

from __future__ import annotations

import pytest
from customer_side import CONFIG, Served, client_of
from msgspec.structs import replace
from sqlalchemy import select

from pool.config import NotificationsConfig
from pool.store import schema

PATH = "/api/v1/accounts/me/notifications"
MAILING = replace(
    CONFIG,
    notifications=NotificationsConfig(smtp_host="127.0.0.1", smtp_from="pool@example.org"),
)


async def test_a_wish_is_kept_and_what_is_not_named_stays(served: Served) -> None:
    async with client_of(served) as client:
        before = (await client.get(PATH)).json()
        hook = {"webhook": "https://example.org/hook", "events": ["batch_done"]}
        first = (await client.put(PATH, json=hook)).json()
        second = (await client.put(PATH, json={"per_hour": 2})).json()
        third = (await client.put(PATH, json={"webhook": None})).json()
    assert (before["webhook"], before["events"], before["possible"]) == (None, [], ["batch_done"])
    assert (first["webhook"], first["events"]) == ("https://example.org/hook", ["batch_done"])
    assert (second["webhook"], second["per_hour"]) == ("https://example.org/hook", 2)
    assert (third["webhook"], third["events"], third["per_hour"]) == (None, ["batch_done"], 2)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"webhook": "http://example.org/"}, "webhook"),
        ({"webhook": "https://user:secret@example.org/"}, "webhook"),
        ({"webhook": 5}, "webhook"),
        ({"webhook": "https://example.org/" + 600 * "x"}, "webhook"),
        ({"email": "me@example.org"}, "email"),  # this pool sends none
        ({"events": ["payout"]}, "events"),  # a miner's
        ({"events": "batch_done"}, "events"),
        ({"per_hour": 0}, "per_hour"),
        ({"per_hour": 61}, "per_hour"),
        ({"per_hour": True}, "per_hour"),
        ({"hour": 1}, "hour"),
    ],
)
async def test_a_wish_that_cannot_be_had_names_its_field(
    served: Served, body: dict[str, object], param: str
) -> None:
    async with client_of(served) as client:
        answer = await client.put(PATH, json=body)
        after = (await client.get(PATH)).json()
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert (after["webhook"], after["email"], after["per_hour"]) == (None, None, 10)


@pytest.mark.parametrize("config", [MAILING])
async def test_an_address_is_confirmed_with_the_code_that_was_mailed(served: Served) -> None:
    def mails() -> list[tuple[str, str]]:
        table = schema.notice_message.c
        with served.store.database.read() as connection:
            rows = connection.execute(select(table.address, table.body).order_by(table.made))
            return [(row.address, row.body.decode()) for row in rows]

    async with client_of(served) as client:
        for bad in ("me", "me@", "a b@example.org", "me@example.org\nBcc: x@example.org", 7):
            assert (await client.put(PATH, json={"email": bad})).status_code == 400
        named = (await client.put(PATH, json={"email": "me@example.org"})).json()
        ((address, text),) = mails()
        code = text.split("\n    ")[1].split("\n")[0].strip()
        wrong = await client.post(f"{PATH}/confirm", json={"code": "nothing"})
        right = await client.post(f"{PATH}/confirm", json={"code": code})
        again = (await client.put(PATH, json={"email": "me@example.org"})).json()
        for number in range(2):
            await client.put(PATH, json={"email": f"other{number}@example.org"})
        many = await client.put(PATH, json={"email": "more@example.org"})
    assert address == "me@example.org"
    assert (named["email_confirmed"], right.json()["email_confirmed"]) == (False, True)
    assert again["email_confirmed"]
    assert wrong.json()["error"]["param"] == "code"
    assert (many.status_code, many.json()["error"]["code"]) == (429, "too_many_addresses")
    assert len(mails()) == 3


ALERTS = {
    "version": "4",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "PoolDown", "severity": "page"},
            "annotations": {"summary": "The pool does not answer."},
        }
    ],
}


async def test_alerts_are_passed_on_with_the_secret_only(served: Served) -> None:
    async with client_of(served) as client:

        async def post(token: str, body: object = ALERTS) -> int:
            headers = {"authorization": f"Bearer {token}"}
            return (await client.post("/api/v1/alerts", json=body, headers=headers)).status_code

        assert [await post(one) for one in ("x", "wrong", served.key)] == [401, 401, 401]
        assert await post("alert-secret") == 200
        for bad in ({}, {"alerts": 5}, {"alerts": [{}]}, {"alerts": [{"labels": []}]}, [], "x"):
            assert await post("alert-secret", bad) == 400
    with served.store.database.read() as connection:
        (row,) = connection.execute(select(schema.notice))
    assert (row.account, row.kind, row.facts["alert"]) == ("operator", "alert", "PoolDown")

"""Messages reach real receivers: once, signed, so many an hour, and again until they arrive."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace
from receivers import Hook, MailServer
from sqlalchemy import select

from pool.config import Config, HttpConfig, NotificationsConfig
from pool.notices.sending import Notices
from pool.store import Store, schema
from pool.store.notices import OPERATOR, Wish, confirm_address, notify, set_wish

NOW = 100_000.0


class Sender:
    """The service over a store, with a clock that tests move."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        self.at = NOW
        self.config = Config(
            http=HttpConfig(webhooks_anywhere=True, public_url="https://pool.example"),
            notifications=replace(NotificationsConfig(), **settings),
        )

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Run until it is so, and a little on."""
        clock = cast(Any, SimpleNamespace(now=lambda: self.at))
        service = Notices(self.store, clock, self.config, Path("/"), None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run)
            with trio.fail_after(seconds):
                while not condition():  # noqa: ASYNC110 - another thread's
                    await trio.sleep(0.02)
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()

    def wish(self, account: str, **fields: Any) -> str | None:
        with self.store.database.write() as connection:
            return set_wish(connection, Wish(account, **fields), self.at)

    def happened(self, account: str, kind: str, **facts: Any) -> bool:
        with self.store.database.write() as connection:
            return notify(connection, account, kind, facts, self.at)

    def problems(self) -> list[str | None]:
        with self.store.database.read() as connection:
            return list(connection.scalars(select(schema.notice_message.c.problem)))


def mailing(store: Store, mail: MailServer, **settings: Any) -> Sender:
    """One that sends mail by this server, without TLS unless the settings say so."""
    ways = {"smtp_host": "127.0.0.1", "smtp_port": mail.port, "smtp_security": "none"}
    return Sender(store, **ways | {"smtp_from": "pool@example.org"} | settings)


async def test_a_webhook_is_told_once_and_signed(store: Store, hook: Hook) -> None:
    sender = Sender(store)
    sender.wish("carol", webhook=hook.url, events=("batch_done",))
    assert sender.happened("carol", "batch_done", batch="batch_1", status="completed")
    await sender.until(lambda: len(hook.got) == 1)
    await sender.until(lambda: True)
    ((headers, body),) = hook.got
    event = json.loads(body)
    assert (event["object"], event["type"]) == ("event", "batch_done")
    assert event["data"]["notices"] == [
        {
            "type": "batch_done",
            "at": int(NOW),
            "data": {"batch": "batch_1", "status": "completed"},
        }
    ]
    assert headers["webhook-id"] == event["id"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = Ed25519PublicKey.from_public_bytes(store.signer.public_key)
    key.verify(b64decode(headers["webhook-signature"].removeprefix("v1a,")), signed)


async def test_who_did_not_ask_is_told_nothing(store: Store, hook: Hook) -> None:
    sender = Sender(store)
    sender.wish("alice", webhook=hook.url, events=("payout",))
    assert not sender.happened("alice", "rig_offline", rig="alice.rig", seconds=400)
    assert not sender.happened("carol", "batch_done", batch="b", status="failed")
    await sender.until(lambda: True)
    assert hook.got == []


async def test_never_more_than_so_many_an_hour_and_the_rest_in_one(
    store: Store, hook: Hook
) -> None:
    """The limit holds over a restart (each ``until`` is one); nothing is lost."""
    sender = Sender(store)
    sender.wish("carol", webhook=hook.url, events=("batch_done",), per_hour=3)
    for number in range(3):
        sender.happened("carol", "batch_done", batch=f"batch_{number}", status="completed")
        await sender.until(lambda: len(hook.got) == number + 1)  # noqa: B023
    for number in range(3, 40):
        sender.happened("carol", "batch_done", batch=f"batch_{number}", status="completed")
    await sender.until(lambda: True)
    sender.at += 3_590.0
    await sender.until(lambda: True)
    assert len(hook.got) == 3
    sender.at += 20.0
    await sender.until(lambda: len(hook.got) == 4)
    await sender.until(lambda: True)
    assert len(hook.got) == 4
    told = [
        one["data"]["batch"] for _, body in hook.got for one in json.loads(body)["data"]["notices"]
    ]
    assert told == [f"batch_{number}" for number in range(40)]
    assert json.loads(hook.got[3][1])["type"] == "notices"


async def test_what_is_not_heard_is_sent_again_and_given_up_at_last(
    store: Store, hook: Hook
) -> None:
    sender = Sender(store)
    sender.wish("carol", webhook=hook.url, events=("batch_done",))
    hook.statuses = [500, 404]
    sender.happened("carol", "batch_done", batch="batch_1", status="completed")
    for number in range(3):
        await sender.until(lambda: len(hook.got) == number + 1)  # noqa: B023
        sender.at += 3_600.0
    await sender.until(lambda: True)
    assert len(hook.got) == 3
    assert len({body for _, body in hook.got}) == 1  # its receiver can tell
    assert sender.problems() == [None]
    hook.got.clear()
    hook.statuses = [500] * 100
    sender.happened("carol", "batch_done", batch="batch_2", status="completed")
    for number in range(6):
        await sender.until(lambda: len(hook.got) == number + 1)  # noqa: B023
        sender.at += 10_000.0
    await sender.until(lambda: True)
    assert len(hook.got) == 6
    assert sender.problems() == [None, "status 500"]


async def test_mail_goes_to_confirmed_addresses_only(store: Store, mail: MailServer) -> None:
    sender = mailing(store, mail)
    code = sender.wish("alice", email="alice@example.org", events=("rejections",))
    assert code is not None
    facts: dict[str, Any] = {"shares": 3, "reasons": {"wrong_row": 3}, "leases": [7, 8, 9]}
    sender.happened("alice", "rejections", **facts)
    await sender.until(lambda: True)
    assert mail.box.got == []
    with store.database.write() as connection:
        assert not confirm_address(connection, "alice", "wrong", sender.at)
        assert not confirm_address(connection, "alice", code, sender.at + 86_401)
        assert not confirm_address(connection, "carol", code, sender.at)
        assert confirm_address(connection, "alice", code, sender.at)
        assert not confirm_address(connection, "alice", code, sender.at)  # once
    sender.happened("alice", "rejections", **facts)
    await sender.until(lambda: len(mail.box.got) == 1)
    (envelope,) = mail.box.got
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert (envelope.mail_from, envelope.rcpt_tos) == ("pool@example.org", ["alice@example.org"])
    assert message["subject"] == "inferpool: 3 shares were rejected (3 wrong_row)"
    assert "https://pool.example/account" in message.get_content()
    assert sender.wish("alice", email="alice@example.org", events=()) is None  # known still
    assert sender.wish("alice", email="other@example.org", events=()) is not None


async def test_mail_that_is_refused_is_sent_again(store: Store, mail: MailServer) -> None:
    sender = mailing(store, mail, operator_email="op@example.org")
    mail.box.refuse = 1
    sender.happened(OPERATOR, "alert", alert="PoolDown", status="firing")
    await sender.until(lambda: sender.problems() == ["SMTPDataError"])
    sender.at += 60.0
    await sender.until(lambda: len(mail.box.got) == 1)


async def test_a_server_without_tls_is_not_given_mail_when_tls_is_wanted(
    store: Store, mail: MailServer
) -> None:
    sender = mailing(store, mail, smtp_security="starttls", operator_email="op@example.org")
    sender.happened(OPERATOR, "alert", alert="PoolDown", status="firing")
    await sender.until(lambda: bool(sender.problems()) and sender.problems()[0] is not None)
    assert mail.box.got == []


async def test_the_operator_hears_by_both_ways(store: Store, hook: Hook, mail: MailServer) -> None:
    """On its own machine too, whatever customers may name."""
    sender = mailing(store, mail, operator_email="op@example.org", operator_webhook=hook.url)
    sender.config = replace(sender.config, http=HttpConfig())
    sender.happened(OPERATOR, "payout_waits", payout=7, units=5, state="manual")
    await sender.until(lambda: bool(hook.got and mail.box.got))
    sender.wish("carol", webhook=hook.url, events=("batch_done",))
    sender.happened("carol", "batch_done", batch="batch_1", status="completed")
    await sender.until(lambda: any(sender.problems()))
    assert len(hook.got) == 1
    clock = cast(Any, SimpleNamespace(now=lambda: sender.at))
    sent = await Notices(store, clock, sender.config, Path("/"), None).send_test()
    assert sent == [("webhook", None), ("email", None)]


@pytest.mark.parametrize("evil", ["a\r\nBcc: x@example.org", "a\nSubject: x"])
async def test_no_header_can_be_smuggled_into_mail(
    store: Store, mail: MailServer, evil: str
) -> None:
    sender = mailing(store, mail, operator_email="op@example.org")
    sender.happened(OPERATOR, "alert", alert=evil, status="firing")
    await sender.until(lambda: bool(mail.box.got))
    for envelope in mail.box.got:
        assert envelope.rcpt_tos == ["op@example.org"]
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert message["bcc"] is None
        assert message["subject"].startswith("inferpool: firing: a")


async def test_mail_is_handed_over_after_starttls(store: Store, mail_with_tls: MailServer) -> None:
    sender = mailing(
        store, mail_with_tls, smtp_security="starttls", operator_email="op@example.org"
    )
    sender.happened(OPERATOR, "alert", alert="PoolDown", status="firing")
    await sender.until(lambda: bool(mail_with_tls.box.got))
    assert mail_with_tls.box.got[0].rcpt_tos == ["op@example.org"]

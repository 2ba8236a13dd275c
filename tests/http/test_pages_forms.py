"""Forms of the pages: another site's are refused, and each does what the command does."""

from __future__ import annotations

import pytest
import trio
from customer_side import Served, digest_line, embed_line, jsonl
from page_visitor import Visitor, alert_of, operator_token
from sqlalchemy import func, select

from pool.store import schema
from pool.store.accounts import audit_lines, find_account, renew_payout_token
from pool.store.ledger import balance
from pool.store.notices import wish_of
from pool.store.payees import payee_of
from pool.store.quarantines import quarantine, quarantines
from shares.money import posting

FORMS = {
    "/operator/accounts": {"name": "zoe", "role": "miner"},
    "/operator/credit": {"name": "poor", "units": "5"},
    "/operator/close": {"name": "miner"},
    "/operator/payout-token": {"name": "miner"},
    "/operator/lift": {"kind": "A", "model": "m"},
    "/signout": {},
}


def state_of(served: Served) -> tuple[int, int, object, int]:
    with served.store.database.read() as connection:
        return (
            connection.scalar(select(func.count()).select_from(schema.account)) or 0,
            balance(connection, posting.customer("poor")),
            find_account(connection, "miner"),
            connection.scalar(select(func.count()).select_from(schema.page_session)) or 0,
        )


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_of_another_site_does_nothing(served: Served, path: str) -> None:
    """Without the token, with another browser's, or with an origin that is not ours."""
    async with Visitor(served) as visitor, Visitor(served) as other:
        await visitor.sign_in(operator_token(served))
        before = state_of(served)
        good = await visitor.form_token("/operator")
        foreign = await other.form_token("/signin")
        for token, headers in (
            ("", {}),
            (foreign, {}),
            (good[:-1] + ("0" if good[-1] != "0" else "1"), {}),
            (good, {"origin": "https://evil.example"}),
            (good, {"origin": "null"}),
            (good, {"sec-fetch-site": "cross-site"}),
        ):
            data = FORMS[path] | {"form_token": token}
            answer = await visitor.client.post(path, data=data, headers=headers)
            assert answer.status_code == 403, (token, headers)
            assert "load the page again" in alert_of(answer)
        assert state_of(served) == before


async def test_signing_in_needs_the_form_too(served: Served) -> None:
    """Else another site could sign a visitor in as somebody else."""
    async with Visitor(served) as visitor:
        answer = await visitor.client.post("/signin", data={"token": served.key})
        assert answer.status_code == 403
        token = await visitor.form_token("/signin")
        sent = {"token": served.key, "form_token": token}
        origin = {"origin": "https://evil.example"}
        assert (await visitor.client.post("/signin", data=sent, headers=origin)).status_code == 403
        own = {"origin": served.url, "sec-fetch-site": "same-origin"}
        assert (await visitor.client.post("/signin", data=sent, headers=own)).status_code == 303


async def test_the_operator_makes_credits_and_closes_accounts(served: Served) -> None:
    async with Visitor(served) as visitor:
        await visitor.sign_in(operator_token(served))
        made = await visitor.send("/operator", "/operator/accounts", name="zoe", role="miner")
        token = made.text.split('aria-label="the token"><code>')[1].split("<")[0]
        await visitor.send("/operator", "/operator/credit", name="poor", units="1,000")
        await visitor.send("/operator", "/operator/close", name="zoe")
        again = (await visitor.get("/operator")).text
    assert token not in again
    assert len(served.changes) == 3
    with served.store.database.read() as connection:
        assert served.store.account_by_token(token) is None  # closed
        zoe = find_account(connection, "zoe")
        assert zoe is not None
        assert zoe.closed is not None
        assert balance(connection, posting.customer("poor")) == 1000
        notes = [(actor, what) for _, actor, what in audit_lines(connection, 3)]
    assert notes == [
        ("olga", "account zoe created as miner"),
        ("olga", "1000 units credited to poor"),
        ("olga", "account zoe closed"),
    ]


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("/operator/accounts", {"name": "Zoe!", "role": "miner"}, "use 1 to 32"),
        ("/operator/accounts", {"name": "miner", "role": "miner"}, "exists already"),
        ("/operator/accounts", {"name": "zoe", "role": "king"}, "use one of"),
        ("/operator/credit", {"name": "poor", "units": "1.5"}, "whole number"),
        ("/operator/credit", {"name": "poor", "units": "0"}, "at least 1"),
        ("/operator/credit", {"name": "miner", "units": "5"}, "only a customer"),
        ("/operator/close", {"name": "nobody"}, "there is no account"),
        ("/operator/payout-token", {"name": "rich"}, "only miners are paid"),
        ("/operator/lift", {"kind": "A", "model": "m"}, "is in no quarantine"),
    ],
)
async def test_what_an_operator_gets_wrong_is_said_on_the_page(
    served: Served, path: str, fields: dict[str, str], words: str
) -> None:
    async with Visitor(served) as visitor:
        await visitor.sign_in(operator_token(served))
        before = state_of(served)
        answer = await visitor.send("/operator", path, **fields)
        assert answer.status_code == 400
        assert words in alert_of(answer)
        assert state_of(served) == before


async def test_only_an_operator_can_send_an_operators_forms(served: Served) -> None:
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.miner_key)
        before = state_of(served)
        for path, fields in FORMS.items():
            if path != "/signout":
                answer = await visitor.send("/account", path, **fields)
                assert answer.status_code == 403, path
        assert state_of(served) == before


async def test_a_quarantine_is_lifted_from_the_page(served: Served) -> None:
    at = served.clock.now()
    quarantine(served.store.database, "Odd <GPU>", model="m1", why="driver", at=at)
    async with Visitor(served) as visitor:
        await visitor.sign_in(operator_token(served))
        page = (await visitor.get("/operator")).text
        assert "Odd &lt;GPU&gt;" in page
        fields = {"kind": "Odd <GPU>", "model": "m1", "verdict": "innocent"}
        answer = await visitor.send("/operator", "/operator/lift", **fields)
        assert answer.status_code == 303
    with served.store.database.read() as connection:
        assert quarantines(connection) == []


async def test_a_miner_changes_where_it_is_paid_with_the_payout_token_only(
    served: Served,
) -> None:
    token = renew_payout_token(served.store.database, "miner", served.clock.now())

    def address() -> str | None:
        with served.store.database.read() as connection:
            payee = payee_of(connection, "miner")
        return payee and payee.address

    async with Visitor(served) as visitor:
        await visitor.sign_in(served.miner_key)
        for wrong in ("", served.miner_key, served.key, token[:-1]):
            fields = {"address": "somewhere", "payout_token": wrong}
            answer = await visitor.send("/account", "/account/payout", **fields)
            assert answer.status_code == 403
            assert "inferpool account payout-token miner" in alert_of(answer)
        assert address() is None
        fields = {"address": "my bank", "minimum": "x", "payout_token": token}
        answer = await visitor.send("/account", "/account/payout", **fields)
        assert "whole number" in alert_of(answer)
        fields = {"address": "my bank", "minimum": "2,000,000", "payout_token": token}
        answer = await visitor.send("/account", "/account/payout", **fields)
        assert answer.status_code == 303
    assert address() == "my bank"
    assert [account for account, _ in served.told] == ["miner"]


async def test_a_customer_uploads_a_batch_and_downloads_its_output(served: Served) -> None:
    data = jsonl([embed_line(number, f"w{number + 4}") for number in range(5)])
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.key)
        fields = {
            "form_token": await visitor.form_token("/account"),
            "purpose": "batch",
            "endpoint": "/v1/embeddings",
            "assurance": "full",
            "completion_window": "24h",
        }
        files = {"file": ("texts.jsonl", data)}
        sent = await visitor.client.post("/account/batches", data=fields, files=files)
        assert sent.status_code == 303, sent.text
        page = sent.headers["location"]
        while "Download the answers" not in (shown := (await visitor.get(page)).text):
            assert "There is no output" not in shown
        output = await visitor.get(f"{page}/output")
        errors = await visitor.get(f"{page}/errors")
        statement = await visitor.get("/account/statement?format=csv")
    assert output.headers["content-disposition"].startswith("attachment")
    assert output.headers["x-content-type-options"] == "nosniff"
    assert len(output.text.splitlines()) == 5
    assert errors.status_code == 404
    assert "each row checked with 100 %" in shown
    assert statement.text.startswith("at,kind,job,batch")
    async with Visitor(served) as other:
        await other.sign_in(served.poor_key)
        for path in (page, f"{page}/output", f"/live{page}"):
            assert (await other.get(path)).status_code == 404
        assert (await other.send("/account", f"{page}/cancel")).status_code == 404


async def test_a_refused_upload_says_why_and_leaves_no_file(served: Served) -> None:
    def files_kept() -> int:
        with served.store.database.read() as connection:
            return connection.scalar(select(func.count()).select_from(schema.file)) or 0

    data = jsonl([digest_line(0, [1])])
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.key)
        good = {
            "form_token": await visitor.form_token("/account"),
            "purpose": "batch",
            "endpoint": "/v1/digests",
        }

        async def refused(changes: dict[str, str], content: bytes = data) -> tuple[int, str]:
            answer = await visitor.client.post(
                "/account/batches", data=good | changes, files={"file": ("a.jsonl", content)}
            )
            return answer.status_code, alert_of(answer)

        assert (await refused({"form_token": "0" * 64}))[0] == 403
        assert files_kept() == 0
        assert "purpose" in (await refused({"purpose": "fine-tune"}))[1]
        assert (await refused({}, b"x" * (5 << 20)))[0] == 413
        assert files_kept() == 0
        assert "endpoint" in (await refused({"endpoint": "/v1/nothing"}))[1]
        assert "assurance" in (await refused({"assurance": "certainly"}))[1]
        assert "completion_window" in (await refused({"completion_window": "soon"}))[1]


async def test_a_batch_is_cancelled_from_its_page(served: Served) -> None:
    served.core.go = trio.Event()  # nothing is computed
    data = jsonl([digest_line(number, [number]) for number in range(20)])
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.key)
        fields = {
            "form_token": await visitor.form_token("/account"),
            "purpose": "batch",
            "endpoint": "/v1/digests",
        }
        files = {"file": ("a.jsonl", data)}
        sent = await visitor.client.post("/account/batches", data=fields, files=files)
        page = sent.headers["location"]
        await served.core.opened.wait()
        assert (await visitor.send(page, f"{page}/cancel")).status_code == 303
        with trio.fail_after(10):
            while 'class="bad">cancelled<' not in (shown := (await visitor.get(page)).text):
                pass
        again = await visitor.send("/account", f"{page}/cancel")
    assert again.status_code == 303
    assert "data-confirm" not in shown  # it is over: no button


async def test_what_an_account_wants_to_hear_of_is_chosen_on_its_page(served: Served) -> None:
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.miner_key)
        fields = {"event_payout": "1", "webhook": "https://example.org/hook", "per_hour": "3"}
        sent = await visitor.send("/account", "/account/notifications", **fields)
        page = (await visitor.get("/account")).text
        bad = fields | {"webhook": "http://example.org/"}
        refused = await visitor.send("/account", "/account/notifications", **bad)
        code = await visitor.send("/account", "/account/confirm", code="guess")
    assert sent.status_code == 303
    assert "You hear of payout, at most 3 times an hour" in page
    assert "webhook" in alert_of(refused)
    assert "code" in alert_of(code)
    with served.store.database.read() as connection:
        wish = wish_of(connection, "miner")
    assert (wish.webhook, wish.events, wish.per_hour) == (
        "https://example.org/hook",
        ("payout",),
        3,
    )

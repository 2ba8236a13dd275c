"""What pages show and to whom, and what guards them."""

from __future__ import annotations

import re
from html import unescape

import pytest
import trio
from customer_side import CONFIG, Served, client_of
from documents import wrong_in
from msgspec.structs import replace
from page_visitor import Visitor, operator_token

from pool.config import Config
from pool.store import Group, commit_group
from pool.store.accounts import create_account
from pool.store.history import KEPT_SECONDS, Moment, add_moment, moments
from shares.blocks import Kind, Segment
from shares.board.effects import LeaseEnded, LeaseIssued

PUBLIC = ("/", "/connect", "/signin")


async def pages_of(served: Served) -> list[tuple[str, str]]:
    """(token, path) of each page."""
    return [
        *(("", path) for path in PUBLIC),
        (served.key, "/account"),
        (served.miner_key, "/account"),
        (served.miner_key, "/rigs/miner.rig1"),
        (operator_token(served), "/operator"),
        ("", "/nothing-here"),
    ]


async def test_every_page_forbids_scripts_of_others_frames_and_caches(served: Served) -> None:
    for token, path in await pages_of(served):
        async with Visitor(served) as visitor:
            if token:
                await visitor.sign_in(token)
            answer = await visitor.get(path, headers={"accept": "text/html"})
        headers, html = answer.headers, answer.text
        assert answer.status_code == (404 if path == "/nothing-here" else 200), path
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert re.findall(r'<script(?! type="module" src="/static/)', html) == []
        assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", html) == []
        outside = re.findall(r'(?:src|href|action)="(?:https?:)?//[^"]*', html)
        assert outside == [], path
        assert '<html lang="en">' in html


async def test_what_others_named_is_text_on_the_page(served: Served) -> None:
    evil = "<script>alert(1)</script>\"'&"
    served.facts["rigs"][1]["models"] = [evil]
    served.facts["models"][0] |= {"name": evil}
    async with Visitor(served) as visitor:
        for path in ("/", "/connect"):
            html = (await visitor.get(path, headers={"host": "pool.example"})).text
            assert "<script>alert" not in html
            assert "&lt;script&gt;alert(1)" in html
        html = (await visitor.get('/signin?then="><script>alert(1)</script>')).text
        assert "<script>alert" not in html


@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, http=replace(CONFIG.http, public_names=False))]
)
async def test_names_are_shown_to_strangers_only_by_the_operators_wish(
    served: Served, config: Config
) -> None:
    shown = config.http.public_names
    async with Visitor(served) as visitor, client_of(served) as client:
        assert ("stranger.basement" in (await visitor.get("/")).text) == shown
        status = (await client.get("/api/v1/status")).json()
        assert (status["rigs"][1]["account"] == "stranger") == shown
        assert len(status["rigs"]) == 2
        await visitor.sign_in(served.miner_key)
        html = (await visitor.get("/")).text
        assert "miner.rig1" in html  # one's own
        assert ("stranger.basement" in html) == shown
    async with Visitor(served) as visitor:
        await visitor.sign_in(operator_token(served))
        assert "stranger.basement" in (await visitor.get("/")).text
        assert "stranger" not in (await visitor.get("/operator")).text  # has no account here


async def test_other_peoples_rigs_are_not_there(served: Served) -> None:
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.miner_key)
        for path in (
            "/rigs/stranger.basement",
            "/rigs/stranger.basement/work",
            "/rigs/miner.none",
            "/rigs/x",
            "/live/rigs/stranger.basement",
        ):
            assert (await visitor.get(path)).status_code == 404, path


async def test_a_share_is_its_miners_and_the_operators_alone(served: Served) -> None:
    token = create_account(served.store.database, "other", "miner", served.clock.now())
    segment = Segment(1, 0, 0, 10, Kind.ROW)
    now = served.clock.now()
    issued = LeaseIssued(
        77, "miner", "rig1", "model", "embed", (segment,), 10, 50, 50, now, now + 60
    )
    ended = LeaseEnded(77, "expired", "rig", now + 60)
    await trio.to_thread.run_sync(commit_group, served.store, Group([issued, ended], {}))
    for key, status in (
        (served.miner_key, 200),
        (token, 404),
        (served.key, 403),
        (operator_token(served), 200),
    ):
        async with Visitor(served) as visitor:
            await visitor.sign_in(key)
            page = await visitor.get("/shares/77")
            assert page.status_code == status
            if status != 200:
                assert (await visitor.get("/live/shares/77")).status_code == status
            else:
                assert "The deadline passed while the rig was connected" in page.text
                assert (await visitor.get("/shares/77/bundle")).status_code == 404
            if key == served.miner_key:
                home = await visitor.get("/account")
                assert "/shares/77" in home.text


async def test_a_rig_that_just_came_has_no_rate_yet(served: Served) -> None:
    for rig in served.facts["rigs"]:
        rig["rate"] = None
    async with Visitor(served) as visitor:
        assert (await visitor.get("/")).status_code == 200
        await visitor.sign_in(served.miner_key)
        for path in ("/account", "/rigs/miner.rig1"):
            assert (await visitor.get(path)).status_code == 200, path


async def test_secrets_are_not_among_the_settings(served: Served) -> None:
    async with Visitor(served) as visitor:
        await visitor.sign_in(operator_token(served))
        html = (await visitor.get("/operator")).text
    assert "money.fee_ppm" in html
    for token in (served.key, served.poor_key, served.miner_key):
        assert token not in html


async def test_styles_and_scripts_are_asked_for_again_but_sent_once(served: Served) -> None:
    async with Visitor(served) as visitor:
        names = set(re.findall(r'/static/([a-z.]+)"', (await visitor.get("/")).text))
        assert names == {"icon.svg", "pages.css", "pages.js"}
        for name in names:
            first = await visitor.get(f"/static/{name}")
            tag = {"if-none-match": first.headers["etag"]}
            again = await visitor.get(f"/static/{name}", headers=tag)
            assert (first.status_code, again.status_code) == (200, 304)
            assert again.content == b""
        script = (await visitor.get("/static/pages.js")).text
        for module in re.findall(r'from "\./([a-z]+\.js)"', script):
            assert (await visitor.get(f"/static/{module}")).status_code == 200
        assert (await visitor.get("/static/..%2fframe.py")).status_code == 404
        assert (await visitor.get("/favicon.ico")).headers["location"] == "/static/icon.svg"


async def test_charts_have_means_and_sums_by_steps(served: Served) -> None:
    now = served.clock.now()
    for number in range(8):
        add_moment(
            served.store.database,
            Moment(now - 120 + 15 * number, 10.0 * number, 2, 1, 100, 5, 1, number % 2),
        )
    async with Visitor(served) as visitor:
        chart = (await visitor.get("/api/v1/history?span=1h")).json()
        add_moment(served.store.database, Moment(now + 1, 1.0, accepted_work=7))
        kept = (await visitor.get("/api/v1/history")).json()
        wrong = await visitor.get("/api/v1/history?span=1y", headers={"accept": "text/html"})
    assert sum(one["accepted_work"] for one in chart["data"]) == 40
    assert sum(one["shares_rejected"] for one in chart["data"]) == 4
    assert 4 <= len(chart["data"]) <= 6
    assert chart["data"] == sorted(chart["data"], key=lambda one: one["at"])
    assert kept == chart  # asked again at once: not looked for again
    assert wrong.status_code == 400
    assert "1h, 24h, 7d, 30d" in wrong.json()["error"]["message"]


async def test_moments_older_than_a_month_are_forgotten(served: Served) -> None:
    database = served.store.database
    add_moment(database, Moment(1_000.0, rate=1.0))
    add_moment(database, Moment(1_000.0 + KEPT_SECONDS, rate=2.0))
    with database.read() as connection:
        assert len(moments(connection, 0.0, 60.0)) == 2
    add_moment(database, Moment(1_001.0 + KEPT_SECONDS, rate=4.0))
    with database.read() as connection:
        (one,) = moments(connection, 0.0, 1e9)
    assert one.rate == 3.0


async def test_commands_to_be_copied_are_commands(served: Served) -> None:
    """For this pool: with the addresses that a browser came by."""
    async with Visitor(served) as visitor:
        await visitor.sign_in(served.miner_key)
        html = (await visitor.get("/connect")).text
    blocks = [unescape(one) for one in re.findall(r"<code>([^<]*)</code></pre>", html)]
    commands = [one.replace("\\\n", " ") for one in blocks if one.startswith("inferpool ")]
    assert len(commands) == 5
    for command in commands:
        assert list(wrong_in(command)) == [], command
    assert any(f"--url {served.url} " in one for one in commands)
    assert any("--user miner.rig1 " in one for one in commands)

"""Operator, miner and customer, in a real browser, on a desktop and on a telephone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from harness import Pool, check_output, digest_lines
from lively import DESKTOP, TELEPHONE, Lively, Visitor
from playwright.sync_api import Browser, expect

from pool.store.accounts import create_account

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LOOKS = [
    pytest.param((DESKTOP, "light"), id="desktop"),
    pytest.param((DESKTOP, "dark"), id="dark", marks=pytest.mark.long),
    pytest.param((TELEPHONE, "light"), id="telephone", marks=pytest.mark.long),
]


@pytest.fixture(params=LOOKS)
def visitor(request: pytest.FixtureRequest, lively: Lively, browser: Browser) -> Iterator[Visitor]:
    """A browser that nothing may go wrong in, and that asks nobody but the pool."""
    size, scheme = request.param
    found = Visitor(browser, lively.url, size, color_scheme=scheme)
    found.name = request.node.callspec.id
    yield found
    problems, asked = found.problems, found.asked
    found.close()
    assert problems == []
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(lively.url).netloc}


def well_made(visitor: Visitor) -> None:
    """Nothing serious for axe-core, and nothing that is wider than the screen."""
    found = Axe().run(visitor.page).response["violations"]
    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == [], visitor.page.url
    wide = visitor.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0, visitor.page.url


def test_the_operator_makes_an_account_and_sees_its_rig_join(
    visitor: Visitor, lively: Lively, tmp_path: Path
) -> None:
    page, name = visitor.page, f"dave-{visitor.name}"
    visitor.sign_in(lively.tokens["olga"])
    expect(page.get_by_role("heading", name="Operator", exact=True)).to_be_visible()
    form = page.locator("form[action='/operator/accounts']")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Role").select_option("miner")
    form.get_by_role("button", name="Create").click()
    token = page.get_by_label("the token", exact=True).inner_text().strip()
    assert token.startswith("ip_")
    well_made(visitor)
    page.goto("/")
    expect(page.locator("[data-live-state]")).to_have_class("live on")
    rig = page.locator("#rigs").get_by_text(f"{name}.rig1")
    expect(rig).to_have_count(0)
    (lively.pool.folder / f"{name}.token").write_text(token)
    joined = lively.rig(name)
    expect(rig).to_be_visible(timeout=60_000)  # nobody reloaded
    well_made(visitor)
    rig.click()
    expect(page.get_by_role("heading", name=f"{name}.rig1")).to_be_visible()
    well_made(visitor)
    joined.process.kill()
    page.goto("/operator")
    expect(page.locator("#audit_log")).to_contain_text(f"account {name} created as miner")
    well_made(visitor)


def test_a_miner_finds_why_a_share_was_rejected(
    visitor: Visitor, lively: Lively, tmp_path: Path
) -> None:
    page, name = visitor.page, f"mallory-{visitor.name}"
    lively.pool.account(name, "miner")
    visitor.sign_in(lively.tokens[name])
    expect(page.locator("#own_rigs")).to_contain_text("You have no rig here yet")
    expect(page.locator("#rejections")).to_contain_text("None: every share that ended was paid")
    well_made(visitor)
    liar = lively.liar(name)
    lively.batch(4_000, seed=len(visitor.name))
    wrong = page.locator("#rejections tr", has_text="wrong row").first
    expect(wrong).to_be_visible(timeout=60_000)  # nobody reloaded
    liar.kill()
    expect(wrong).to_contain_text("The referee found a row wrong")
    well_made(visitor)
    wrong.get_by_role("link").click()
    expect(page.get_by_role("status")).to_contain_text("Fault: rig.")
    expect(page.locator("#share_parts")).to_contain_text("of root")
    well_made(visitor)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the replay bundle").click()
    bundle = json.loads(Path(download.value.path()).read_text())
    assert bundle["object"] == "replay_bundle"
    assert bundle["user"] == f"{name}.rig1"
    page.get_by_role("button", name="Appeal").click()
    expect(page.get_by_text("Appealed")).to_be_visible()
    well_made(visitor)
    page.goto(f"/rigs/{name}.rig1")
    expect(page.get_by_role("status")).to_contain_text("banned until")
    well_made(visitor)


@pytest.mark.long
def test_a_customer_brings_a_batch_watches_it_and_has_the_result(
    visitor: Visitor, lively: Lively, tmp_path: Path
) -> None:
    page, lines = visitor.page, digest_lines(30_000, seed=len(visitor.name) + 7)
    file = tmp_path / "rows.jsonl"
    file.write_bytes(lines)
    visitor.sign_in(lively.tokens["carol"])
    page.get_by_label("File of JSON lines").set_input_files(file)
    page.get_by_label("Endpoint").select_option("/v1/digests")
    page.get_by_role("button", name="Upload and start").click()
    page.wait_for_url("**/batches/batch_*")
    seen = set()

    def over() -> bool:
        # At once, whatever is there: a part that lives may be gone in the next moment.
        seen.update(page.locator("#batch_state .bar span").all_inner_texts())
        return page.get_by_role("link", name="Download the answers").count() > 0

    visitor.until("the batch does not end", over)
    assert len(seen) > 1, "no progress was seen"
    well_made(visitor)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the answers").click()
    check_output(Path(download.value.path()).read_bytes(), lines)
    page.goto("/account")
    expect(page.locator("#batches")).to_contain_text("completed")
    well_made(visitor)


def test_a_refused_file_is_explained_where_it_was_chosen(
    lively: Lively, browser: Browser, tmp_path: Path
) -> None:
    visitor = Visitor(browser, lively.url)
    page = visitor.page
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"not": "a request"}\n')
    visitor.sign_in(lively.tokens["carol"])
    page.get_by_label("File of JSON lines").set_input_files(file)
    page.get_by_label("Done within").fill("soon")
    page.get_by_role("button", name="Upload and start").click()
    expect(page.get_by_role("alert")).to_contain_text("completion_window")
    page.get_by_label("Done within").fill("24h")
    page.get_by_role("button", name="Upload and start").click()
    page.wait_for_url("**/batches/batch_*")
    expect(page.locator("#batch_result")).to_contain_text("Correct these", timeout=60_000)
    well_made(visitor)
    visitor.close()


def test_strangers_pages_are_well_made_too(visitor: Visitor, lively: Lively) -> None:
    page = visitor.page
    for path in ("/", "/connect", "/signin"):
        page.goto(path)
        well_made(visitor)
    page.goto("/")
    page.get_by_role("button", name="24h").click()
    expect(page.get_by_role("button", name="24h")).to_have_attribute("aria-pressed", "true")
    page.locator(".plot").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".plot .cursor").first).to_be_attached()
    page.get_by_role("link", name="Connect", exact=True).click()
    page.get_by_role("button", name="Copy: connect the rig").click()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Token").fill("ip_nothing")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("opens no account")
    well_made(visitor)
    visitor.problems[:] = [one for one in visitor.problems if "status of 401" not in one]


@pytest.mark.long
def test_a_table_sorts_and_pages_and_stays_so_while_it_lives(
    lively: Lively, browser: Browser
) -> None:
    with lively.pool.store() as store:
        for number in range(20):
            create_account(store.database, f"extra-{number:02}", "miner", 1_000.0 + number)
    visitor = Visitor(browser, lively.url)
    page = visitor.page
    visitor.sign_in(lively.tokens["olga"])
    table = page.locator("#accounts-table")
    rows = table.locator("tbody tr:visible td:first-child")
    expect(rows).to_have_count(15)
    table.get_by_role("button", name="Account").click()
    table.get_by_role("button", name="Account").click()
    expect(table.locator("th").first).to_have_attribute("aria-sort", "descending")
    names = rows.all_inner_texts()
    assert names == sorted(names, reverse=True)
    page.locator("#accounts").get_by_role("button", name="Next").click()
    first = rows.first.inner_text()
    assert first < names[-1]
    carol = table.locator("tr", has_text="carol")
    before = carol.all_inner_texts()
    lively.pool.credit("carol", 1_234_567)
    visitor.until("no live part came", lambda: carol.all_inner_texts() != before)
    page.wait_for_timeout(3_000)
    assert rows.first.inner_text() == first
    assert visitor.problems == []
    visitor.close()


@pytest.mark.long
def test_a_page_says_when_the_pool_is_gone_and_lives_again_when_it_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    pool = Pool(tmp_path / "pool")
    pool.start()
    visitor = Visitor(browser, pool.url)
    page = visitor.page
    try:
        page.goto("/")
        expect(page.locator("#rigs")).to_contain_text("No rig is connected")
        expect(page.locator("#jobs")).to_contain_text("Nothing is to be computed")
        sign = page.locator("[data-live-state]")
        expect(sign).to_have_text("live")
        assert pool.process is not None
        assert pool.process.stop() == 0  # an open page does not keep it
        expect(sign).to_have_text("reconnecting")
        pool.start()
        expect(sign).to_have_text("live", timeout=20_000)
    finally:
        visitor.close()
        assert pool.process is not None
        pool.process.kill()

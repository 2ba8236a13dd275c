"""A whole pool to look at in a browser: honest rigs, one that lies, a customer with batches."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import SETTINGS, Pool, Process, Rig, digest_lines, pool_with_rigs, submit
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 60.0
DESKTOP = {"width": 1280, "height": 900}
TELEPHONE = {"width": 390, "height": 844}

# An epoch is over within a test; a ban is not.
LIVELY = SETTINGS.replace("[trust]", "[trust]\nban_seconds = 3600.0\nepoch_seconds = 60.0")


@dataclass
class Lively:
    """The running pool, its tokens by account, and what else runs."""

    pool: Pool
    tokens: dict[str, str]
    others: list[Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.pool.url

    def rig(self, account: str, speed: float = 2_000.0) -> Rig:
        """Connect an honest rig of this account."""
        rig = Rig(self.pool, f"{account}.rig1", str(self.pool.folder / f"{account}.token"), speed)
        self.others.append(rig.process)
        return rig

    def liar(self, account: str) -> Process:
        """Connect a rig that falsifies one row in five."""
        command = [
            *(sys.executable, "-m", "pool.demo.cheat"),
            *("--pool", f"stratum+tcp://127.0.0.1:{self.pool.stratum_port}"),
            *("--user", f"{account}.rig1"),
            *("--token-file", str(self.pool.folder / f"{account}.token")),
            *("--cache", str(self.pool.folder / f"cache-{account}")),
        ]
        process = Process(command)
        self.others.append(process)
        return process

    def batch(self, rows: int, seed: int = 1) -> str:
        """carol brings one."""
        with self.pool.client("carol") as client:
            return submit(client, digest_lines(rows, seed))


@contextlib.contextmanager
def lively_pool(folder: Path) -> Iterator[Lively]:
    """With the accounts olga (operator), alice, bob and mallory (miners), carol (customer)."""
    with pool_with_rigs(folder, {}, LIVELY) as (pool, _):
        for name, role in (
            ("olga", "operator"),
            ("alice", "miner"),
            ("bob", "miner"),
            ("mallory", "miner"),
        ):
            pool.account(name, role)
        pool.start()
        lively = Lively(pool, pool.tokens)
        try:
            yield lively
        finally:
            for process in lively.others:
                process.kill()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """A browser of somebody's: notes what goes wrong, and which hosts it asks."""

    def __init__(self, browser: Browser, url: str, size: dict[str, int] = DESKTOP, **more: Any):
        self.context: BrowserContext = browser.new_context(
            base_url=url, viewport=size, accept_downloads=True, reduced_motion="reduce", **more
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.name = ""
        self.problems: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.text} ({message.location.get('url')})")

    def sign_in(self, token: str) -> None:
        self.page.goto("/signin")
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("main").get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(lambda url: "signin" not in url)

    def until(self, what: str, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Look again until it is so; the page is live, so nobody reloads it."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}:\n{self.page.inner_text('body')[:3000]}"
            self.page.wait_for_timeout(200)

    def close(self) -> None:
        self.context.close()

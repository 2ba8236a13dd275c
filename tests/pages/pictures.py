"""Pictures of every page, from a pool that has run for some minutes: ``make pictures``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system")]

from lively import DESKTOP, TELEPHONE, Lively, Visitor, chromium, lively_pool  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402

OUT = ROOT / "docs" / "images"
MINUTES = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0


def work(lively: Lively) -> tuple[str, str]:
    """Batches for some minutes, of which the last is under way: (one that is done, that one)."""
    lively.rig("alice", 2_000.0)
    lively.rig("bob", 900.0)
    first = lively.batch(8_000)
    lively.liar("mallory")
    deadline, seed = time.monotonic() + 60 * MINUTES, 2
    while time.monotonic() < deadline:
        lively.batch(20_000 + 7_000 * (seed % 3), seed)
        seed += 1
        time.sleep(11)
    return first, lively.batch(250_000, seed)


def pictures(lively: Lively, browser: Browser, done: str, running: str) -> None:
    pages = {
        "": {"overview": "/", "connect": "/connect", "signin": "/signin"},
        "olga": {"operator": "/operator"},
        "alice": {"account": "/account", "rig": "/rigs/alice.rig1"},
        "mallory": {"rejected": "/account"},
        "carol": {
            "customer": "/account",
            "batch": f"/batches/{running}",
            "done": f"/batches/{done}",
        },
    }
    for size, scheme, suffix in (
        (DESKTOP, "light", ""),
        (DESKTOP, "dark", "-dark"),
        (TELEPHONE, "light", "-telephone"),
    ):
        for name, paths in pages.items():
            visitor = Visitor(browser, lively.url, size, color_scheme=scheme)
            if name:
                visitor.sign_in(lively.tokens[name])
            for what, path in paths.items():
                if suffix and what not in ("overview", "account", "batch"):
                    continue
                shoot(visitor, path, what + suffix)
                if what == "rejected":
                    link = visitor.page.locator("#rejections tr", has_text="wrong row")
                    shoot(visitor, str(link.locator("a").first.get_attribute("href")), "share")
            assert visitor.problems == [], visitor.problems
            visitor.close()


def shoot(visitor: Visitor, path: str, name: str) -> None:
    visitor.page.goto(path)
    visitor.page.wait_for_timeout(2_500)  # the chart, and the first live parts
    file = OUT / f"page-{name}.png"
    visitor.page.screenshot(path=file, full_page=True)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(128).save(file, optimize=True)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, lively_pool(Path(folder) / "pool") as lively:
        done, running = work(lively)
        with chromium() as browser:
            pictures(lively, browser, done, running)


if __name__ == "__main__":
    main()

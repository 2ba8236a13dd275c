"""The payout office: closes rounds, hands payouts over, follows them up; and what a person says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from pool.clock import Clock
from pool.config import PayoutsConfig
from pool.payouts.carrier import Carrier
from pool.payouts.documents import Documents
from pool.payouts.endpoint import Endpoint
from pool.payouts.policies import PolicyError, load_policies
from pool.payouts.rounds import RoundClosed, Terms, pay_round
from pool.payouts.sending import look_up_due, send_due
from pool.store import Store
from pool.store.accounts import audit
from pool.store.database import Database
from pool.store.payouts import Payout, find_payout, last_round, step

_log = structlog.get_logger("pool.payouts")

LOOK_SECONDS = 5.0
_FAILED_SECONDS = 60.0


class PayoutError(Exception):
    """A payout cannot be treated as asked; the text says what to do."""


class Office:
    """Everything about payouts that needs a store and the operator's settings. Blocks."""

    def __init__(self, store: Store, config: PayoutsConfig, base: Path) -> None:
        """``base``: what relative paths start from. Raises ``PayoutError`` for bad settings."""
        self._store = store
        self._config = config
        self.carrier = _carrier(store, config, base)
        try:
            policies = load_policies((one.name, one.settings) for one in config.policies)
        except PolicyError as error:
            raise PayoutError(str(error)) from None
        kind = self.carrier.kind if self.carrier and self.carrier.kind else config.address
        self._terms = Terms(kind, config.minimum, policies)

    def pay_round(self, at: float) -> RoundClosed:
        """Close a round now: reserve what may be paid."""
        return pay_round(self._store.database, self._terms, at)

    def work(self, at: float, pause: Callable[[], None] = lambda: None) -> None:
        """One look: a round if it is time, then everything that is due.

        ``pause`` is called between payouts, and may raise to end here.
        """
        if self.carrier is None:
            return
        with self._store.database.read() as connection:
            opened, closed = last_round(connection)
        if closed is None or at >= opened + self._config.every_seconds:
            self.pay_round(at)
        self.carry(at, pause)

    def carry(self, at: float, pause: Callable[[], None] = lambda: None) -> None:
        """Find out what became of hand-overs, then hand over what is due."""
        if self.carrier is not None:
            look_up_due(self._store.database, self.carrier, at, pause)
            send_due(self._store.database, self.carrier, at, pause)


class PayoutRunner:
    """The office in a running pool."""

    def __init__(self, office: Office, clock: Clock) -> None:
        """Nothing is paid before ``run``."""
        self._office = office
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled. What fails is tried again, and never ends the pool."""
        while True:
            pause = LOOK_SECONDS
            try:
                # A pool that stops waits for the payout at hand, and for no other.
                await trio.to_thread.run_sync(
                    self._office.work, self._clock.now(), trio.from_thread.check_cancelled
                )
            except Exception:
                _log.exception("payouts failed", again_in=_FAILED_SECONDS)
                pause = _FAILED_SECONDS
            await trio.sleep(pause)


def _carrier(store: Store, config: PayoutsConfig, base: Path) -> Carrier | None:
    match config.carrier:
        case "none":
            return None
        case "http":
            file = base / config.secret_file
            try:
                secret = file.read_bytes().rstrip(b"\r\n")
            except OSError as error:
                raise PayoutError(f"payouts.secret_file: {file} cannot be read: {error}") from None
            if len(secret) < 16:
                raise PayoutError(
                    f"payouts.secret_file: {file} holds {len(secret)} bytes: write 16 or more "
                    "random ones into it, and give them to the far side"
                )
            return Endpoint(config.url, secret, config.multiplier)
    return Documents(store.objects, config.carrier, config.multiplier)


# ── what a person says ────────────────────────────────────────────────────────


def approve(database: Database, key: str, at: float) -> Payout:
    """A payout that waits for a person is handed over (once more). Raises ``PayoutError``."""
    return _decide(database, key, "reserved", at, "approved", next_at=at, attempts=0)


def give_back(database: Database, key: str, at: float, reason: str) -> Payout:
    """A payout that was surely not made is given up: its units are available again."""
    return _decide(database, key, "returned", at, f"given back: {reason}", reason=reason)


def note_paid(database: Database, key: str, at: float, reference: str) -> Payout:
    """The miner has the money; ``reference`` proves it. Raises ``PayoutError``."""
    return _decide(database, key, "finalised", at, f"paid: {reference}", reference=reference)


_FROM = {
    "reserved": ("manual",),
    "returned": ("manual",),
    "finalised": ("manual", "submitted"),
}


def _decide(
    database: Database,
    key: str,
    state: str,
    at: float,
    what: str,
    *,
    next_at: float | None = None,
    **changes: str | int,
) -> Payout:
    with database.write() as connection:
        payout = find_payout(connection, key)
        if payout is None:
            raise PayoutError(f"there is no payout {key[:80]!r}: see inferpool payouts list")
        if payout.state not in _FROM[state]:
            raise PayoutError(
                f"payout {payout.id} is {payout.state}: only one that is "
                f"{' or '.join(_FROM[state])} can become {state}"
            )
        moved = step(connection, payout, state, at, next_at=next_at, **changes)
        assert moved is not None, "read and moved in one transaction"
        audit(connection, at, f"payout {payout.id} to {payout.account} {what}")
    return moved

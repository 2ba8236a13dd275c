"""What a rig keeps to prove its work: what it delivered, and the pool's receipts for it.

For each pool a folder, named after its address, with two files of JSON lines that only grow:
``ACCOUNT.RIG.delivered.jsonl``, the parts that the pool acknowledged, and
``ACCOUNT.RIG.receipts.jsonl``, the pool's answers with the account's receipts, as it gave them.
``inferpool verify`` reads both.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import structlog
import trio

from gpu_worker.config import PoolAddress
from gpu_worker.sharebook import Part

log = structlog.get_logger()

INTERVAL = 30.0
"""Seconds between two looks for new receipts."""
_PAGE_ROOTS = 1000
_LAST_SECONDS = 10.0
"""How long a rig that stops waits for its last receipts."""


@dataclass(slots=True)
class _Pool:
    """One pool's papers. ``after``: the last root that receipts are kept of; -1: not looked up."""

    url: str
    delivered: list[dict[str, int]] = field(default_factory=list)  # not yet written
    due: bool = False  # parts were acknowledged since the last receipts
    after: int = -1


class ReceiptKeeper:
    """Writes down what was delivered and fetches receipts, in ``folder``.

    ``tls``: what https is verified with, as for ``httpx``.
    """

    def __init__(
        self, folder: Path, user: str, token: str, tls: ssl.SSLContext | bool = True
    ) -> None:
        self._folder = folder
        self._user = user
        self._token = token
        self._tls = tls
        self._pools: dict[PoolAddress, _Pool] = {}

    def connected(self, address: PoolAddress, url: str) -> None:
        """A session with a pool whose HTTP side is at ``url`` ("" when it does not say)."""
        pool = self._pools.setdefault(address, _Pool(""))
        pool.url = url.rstrip("/")
        pool.due = True
        if not url:
            log.warning("this pool does not say where its receipts are", pool=str(address))
        elif address.tls and not url.startswith("https://"):
            # The token would leave in clear, which it did not for the pool's own connection.
            pool.url = ""
            log.warning(
                "receipts are not fetched without TLS",
                url=url,
                remedy="ask the pool's operator for an https public_url",
            )

    def acknowledged(self, address: PoolAddress, part: Part) -> None:
        """The pool says that a part is durable."""
        pool = self._pools[address]
        pool.due = True
        pool.delivered.append({"lease": part.lease, "part": part.number, "rows": len(part.values)})

    async def run(self) -> None:
        """Keep on until cancelled, and then once more."""
        try:
            while True:
                await trio.sleep(INTERVAL)
                await self.catch_up()
        finally:
            with trio.move_on_after(_LAST_SECONDS, shield=True):
                await self.catch_up()

    async def catch_up(self) -> None:
        """Write what was delivered, then fetch the receipts that are new."""
        for address, pool in list(self._pools.items()):
            try:
                await trio.to_thread.run_sync(self._write_delivered, address, pool)
                if pool.url and pool.due:
                    await self._fetch(address, pool)
            except OSError as error:
                log.warning(
                    "receipts cannot be kept",
                    folder=str(self._folder),
                    reason=error.strerror,
                    remedy="make the folder writable, or name another with --receipts",
                )
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                log.warning("receipts cannot be fetched", pool=str(address), reason=str(error))

    def _path(self, address: PoolAddress, kind: str) -> Path:
        host = address.host.replace(":", "_")
        return self._folder / f"{host}_{address.port}" / f"{self._user}.{kind}.jsonl"

    def _write_delivered(self, address: PoolAddress, pool: _Pool) -> None:
        if pool.delivered:
            count = len(pool.delivered)
            lines = [json.dumps({"data": pool.delivered[:count]})]
            _append(self._path(address, "delivered"), lines)
            del pool.delivered[:count]

    async def _fetch(self, address: PoolAddress, pool: _Pool) -> None:
        path = self._path(address, "receipts")
        if pool.after < 0:
            pool.after = await trio.to_thread.run_sync(_last_sequence, path)
        pool.due = False
        more = True
        try:
            async with httpx.AsyncClient(verify=self._tls, timeout=30.0) as client:
                while more:
                    answer = await client.get(
                        f"{pool.url}/api/v1/accounts/me/receipts",
                        params={"after": pool.after, "limit": _PAGE_ROOTS},
                        headers={"Authorization": f"Bearer {self._token}"},
                    )
                    answer.raise_for_status()
                    page = answer.json()
                    if page["data"]:
                        await trio.to_thread.run_sync(_append, path, [json.dumps(page)])
                        pool.after = _sequence(page)
                    more = bool(page["data"]) and page.get("next_after") is not None
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"the pool's answer is no page of receipts: {error}") from None
        except BaseException:
            pool.due = True
            raise


def _append(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def _last_sequence(path: Path) -> int:
    """The last root that a file has receipts of; 0 when there are none.

    A line that was cut short (the machine lost power) is taken off: its receipts come again.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    whole, end, _ = text.rpartition("\n")
    if whole + end != text:
        path.write_text(whole + end, encoding="utf-8")
    last = whole.rpartition("\n")[2]
    try:
        return _sequence(json.loads(last)) if last else 0
    except (KeyError, TypeError, IndexError):
        raise ValueError(f"{path} is damaged: move it away, and all receipts come again") from None


def _sequence(page: dict[str, Any]) -> int:
    return int(page["data"][-1]["root"]["sequence"])

"""``/``: the pool as everybody may see it."""

from __future__ import annotations

from typing import Any

import trio

from pool.http.epochs import epochs_json
from pool.http.hardware import hardware_facts
from pool.http.pages.frame import Page
from pool.http.pages.visits import Visit
from pool.store.receipts import last_roots
from shares.receipts import root_json

_EPOCHS, _ROOTS = 6, 6


async def _load(visit: Visit) -> dict[str, Any]:
    deps = visit.deps
    hardware = await hardware_facts(visit.request)

    def read() -> dict[str, Any]:
        with deps.store.database.read() as connection:
            return {
                "epochs": epochs_json(connection, 0, _EPOCHS, visit.now),
                "roots": [root_json(one) for one in last_roots(connection, _ROOTS)],
            }

    found = await trio.to_thread.run_sync(read)
    return found | {
        "facts": visit.facts,
        "hardware": hardware,
        "money": deps.config.money,
        "payouts": deps.config.payouts,
        "trust": deps.config.trust,
        "public_key": deps.store.signer.public_key.hex(),
    }


PAGE = Page(
    "/",
    "overview.html",
    _load,
    live=("totals", "rigs", "jobs", "sealed"),
    shared=True,
)

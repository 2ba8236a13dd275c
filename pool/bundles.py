"""Replay bundles: a share's refuted rows, as ``inferpool replay`` reads them."""

from __future__ import annotations

from typing import Any

from pool.batches.ports import ModelRegistry
from pool.store import Store
from pool.store.rejections import rejection, tokens_of
from shares.replay import BUNDLE_VERSION


def replay_bundle(
    store: Store, models: ModelRegistry, account: str, lease: int
) -> dict[str, Any] | None:
    """All that a replay needs but the model's files; ``None`` when no row of it was found wrong.

    Raises ``FileNotFoundError`` or ``StoreError`` when the rows are gone (of a direct request,
    after a while).
    """
    with store.database.read() as connection:
        found = rejection(connection, account, lease)
    if found is None or not found.refuted:
        return None
    tokens = tokens_of(store.block_path, found.refuted)
    return {
        "object": "replay_bundle",
        "version": BUNDLE_VERSION,
        "lease": found.lease,
        "user": f"{found.account}.{found.rig}",
        "model": found.model,
        "manifest": models.by_digest(found.model).text.decode(),
        "operation": found.operation,
        "rows": [
            {
                "row": row.share_row,
                "tokens": ids,
                "given": row.given.hex(),
                "expected": row.expected.hex(),
            }
            for row, ids in zip(found.refuted, tokens, strict=True)
        ],
    }

"""Replay bundles: a share's refuted rows, as ``inferpool replay`` reads them."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from pool.batches.ports import ModelRegistry
from pool.store import Store
from pool.store.rejections import rejection, tokens_of
from pool.store.results import result_of
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
    manifest = models.by_digest(found.model).manifest
    results = [b""] * len(tokens)
    if not manifest.exact:
        with store.database.read() as connection:
            keys = [(row.job, row.block, row.row) for row in found.refuted]
            read, size = store.log.read, manifest.row_bytes
            results = [result_of(connection, read, lease, key, size).data for key in keys]
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
                "result": b64encode(result).decode(),
            }
            for row, ids, result in zip(found.refuted, tokens, results, strict=True)
        ],
    }

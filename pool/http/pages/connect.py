"""``/connect``: commands for this pool, to be copied."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pool.batches.endpoints import endpoint_of
from pool.http.pages.frame import Page
from pool.http.pages.visits import Visit
from stratum.addresses import parse_address


async def _load(visit: Visit) -> dict[str, Any]:
    config = visit.deps.config
    here = urlsplit(config.http.public_url or str(visit.request.base_url))
    host = here.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    _, port = parse_address(config.stratum.listen)
    port = visit.deps.stratum_port or port
    scheme = "stratum+ssl" if config.stratum.tls_certificate else "stratum+tcp"
    models = [
        model | {"endpoint": endpoint_of(tuple(model["operations"]))}
        for model in visit.facts.get("models", ())
    ]
    viewer = visit.viewer
    return {
        "url": f"{here.scheme}://{here.netloc}",
        "pool": f"{scheme}://{host}:{port}",
        "tls": bool(config.stratum.tls_certificate),
        "models": models,
        "account": viewer.name if viewer is not None and viewer.role == "miner" else "ACCOUNT",
    }


PAGE = Page("/connect", "connect.html", _load)

"""What the HTTP side is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from pool.batches.ports import Clock, Core, ModelRegistry
from pool.batches.runner import BatchRunner
from pool.config import Config
from pool.store import Store


def _tell_nobody(_account: str, _text: str) -> None:
    return


def _nobody_looks() -> None:
    return


async def _nothing() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDeps:
    """Everything that a request may need. ``overview``: public facts, ready for JSON."""

    store: Store
    core: Core
    models: ModelRegistry
    runner: BatchRunner
    config: Config
    clock: Clock
    registry: CollectorRegistry
    overview: Callable[[], Awaitable[dict[str, Any]]] = field(default=_nothing)
    tell: Callable[[str, str], None] = field(default=_tell_nobody)  # an account's rigs
    changed: Callable[[], None] = field(default=_nobody_looks)  # accounts or quarantines
    ending: trio.Event = field(default_factory=trio.Event)  # streams should end
    alerts_secret: str = ""  # empty: no alerts are taken
    stratum_port: int = 0  # 0: what the settings say
    ready: Callable[[], bool] = field(default=lambda: True)


def deps_of(request: Request) -> HttpDeps:
    """The dependencies of the app that serves ``request``."""
    deps: HttpDeps = request.app.state.deps
    return deps

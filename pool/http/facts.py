"""What is public of the pool as a whole, and who may see names in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import trio
from starlette.requests import Request

from pool.accounts import Account
from pool.http.deps import deps_of

_FRESH_SECONDS = 1.0


@dataclass(slots=True)
class _Kept:
    """What was found last. One looks for all who ask meanwhile."""

    at: float = -1e9
    facts: dict[str, Any] = field(default_factory=dict)
    looking: trio.Lock = field(default_factory=trio.Lock)

    async def look(
        self, overview: Callable[[], Awaitable[dict[str, Any]]], clock: Callable[[], float]
    ) -> dict[str, Any]:
        """The overview, at most a second old."""
        async with self.looking:
            if not 0 <= clock() - self.at <= _FRESH_SECONDS:
                self.facts = await overview()
                self.at = clock()
            return self.facts


def _kept_of(request: Request) -> _Kept:
    state = request.app.state
    if not hasattr(state, "facts"):
        state.facts = _Kept()
    return cast(_Kept, state.facts)


async def facts_of(request: Request, viewer: Account | None) -> dict[str, Any]:
    """The overview, at most a second old.

    With ``http.public_names = false`` accounts and rigs of others have the name None, except for
    operators.
    """
    deps = deps_of(request)
    facts = await _kept_of(request).look(deps.overview, deps.clock.now)
    if deps.config.http.public_names or (viewer is not None and viewer.role == "operator"):
        return facts
    own = None if viewer is None else viewer.name
    rigs = [
        rig if rig["account"] == own else rig | {"account": None, "rig": None}
        for rig in facts.get("rigs", ())
    ]
    return facts | {"rigs": rigs}

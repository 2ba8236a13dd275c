"""What is public of the pool as a whole, and who may see names in it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from pool.accounts import Account
from pool.http.deps import deps_of

_FRESH_SECONDS = 1.0


def facts_of(request: Request, viewer: Account | None) -> dict[str, Any]:
    """The overview, at most a second old.

    With ``http.public_names = false`` accounts and rigs of others have the name None, except for
    operators.
    """
    deps, state = deps_of(request), request.app.state
    now = deps.clock.now()
    kept: tuple[float, dict[str, Any]] | None = getattr(state, "facts", None)
    if kept is None or not 0 <= now - kept[0] <= _FRESH_SECONDS:
        kept = state.facts = (now, deps.overview())
    facts = kept[1]
    if deps.config.http.public_names or (viewer is not None and viewer.role == "operator"):
        return facts
    own = None if viewer is None else viewer.name
    rigs = [
        rig if rig["account"] == own else rig | {"account": None, "rig": None}
        for rig in facts.get("rigs", ())
    ]
    return facts | {"rigs": rigs}

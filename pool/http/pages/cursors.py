"""Long lists, a page at a time: ``?before=`` a number."""

from __future__ import annotations

from starlette.requests import Request

from pool.http.bodies import number_param

NEWEST = 1 << 62
"""Before this: from the newest on."""


def before_of(request: Request) -> int:
    """Where the list goes on. Raises ``ApiError`` 400."""
    return number_param(request, "before", "a number of the list") or NEWEST

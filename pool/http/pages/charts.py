"""Numbers for the charts: the pool over time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http.bodies import invalid
from pool.http.deps import deps_of
from pool.http.errors import JsonResponse
from pool.store.history import Moment, moments

SPANS = {  # {name: (seconds, seconds a point)}
    "1h": (3_600.0, 30.0),
    "24h": (86_400.0, 600.0),
    "7d": (604_800.0, 3_600.0),
    "30d": (2_592_000.0, 14_400.0),
}


def span_of_chart(request: Request) -> tuple[float, float]:
    """Seconds, and seconds a point, of the query parameter ``span``. Raises ``ApiError`` 400."""
    span = SPANS.get(request.query_params.get("span", "1h"))
    if span is None:
        raise invalid("span", f"must be one of {', '.join(SPANS)}")
    return span


@dataclass(slots=True)
class _Kept:
    """Charts as they were drawn last, by span: whoever asks often costs nothing."""

    charts: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)
    looking: trio.Lock = field(default_factory=trio.Lock)


async def get_history(request: Request) -> Response:
    """Public: work a second, rigs, jobs and verdicts over time. At most a third of a step old."""
    deps, state = deps_of(request), request.app.state
    span, step = span_of_chart(request)
    name = request.query_params.get("span", "1h")
    if not hasattr(state, "charts"):
        state.charts = _Kept()
    kept: _Kept = state.charts
    async with kept.looking:
        now = deps.clock.now()
        at, chart = kept.charts.get(name, (-1e9, {}))
        if not 0 <= now - at < step / 3:

            def read() -> list[Moment]:
                with deps.store.database.read() as connection:
                    return moments(connection, now - span, step)

            data = [asdict(one) for one in await trio.to_thread.run_sync(read)]
            chart = {"object": "chart", "from": now - span, "to": now, "data": data}
            kept.charts[name] = (now, chart)
    return JsonResponse(chart)


ROUTES = [Route("/api/v1/history", get_history, methods=["GET"])]

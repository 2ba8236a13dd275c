"""``/api/v1/quotes``: what a batch would cost, before anything is reserved."""

from __future__ import annotations

from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.batches.intake import LineError
from pool.batches.quotes import Quote
from pool.http.auth import customer
from pool.http.batches import PARAMETERS, checked_batch, input_file
from pool.http.bodies import read_object
from pool.http.deps import deps_of
from pool.http.errors import ApiError, JsonResponse
from pool.store.ledger import balance
from shares.money import posting
from shares.trust.assurance import KEY, parse_assurance


async def create_quote(request: Request) -> Response:
    """Read the file as a batch would be, and say what it costs. Takes what a batch takes."""
    deps = deps_of(request)
    account = await customer(request)
    body = {"completion_window": "24h"} | await read_object(request, PARAMETERS)
    values = checked_batch(deps, body)
    file, endpoint = values["input_file"], values["endpoint"]
    wish = (values["metadata"] or {}).get(KEY)

    def look() -> int:
        with deps.store.database.read() as connection:
            input_file(connection, account.name, file, deps.clock.now())
            return balance(connection, posting.customer(account.name))

    has = await trio.to_thread.run_sync(look)
    quote = await deps.runner.quote(account.name, file, endpoint, parse_assurance(wish))
    if isinstance(quote, LineError):
        where = f"line {quote.line}: " if quote.line else ""
        status = 500 if quote.code == "intake_failed" else 400
        raise ApiError(status, quote.code, f"{where}{quote.message}", param=quote.param)
    return JsonResponse(_shape(quote, file, endpoint, wish) | {"balance": has})


ROUTES = [Route("/api/v1/quotes", create_quote, methods=["POST"])]


def _shape(quote: Quote, file: str, endpoint: str, wish: str | None) -> dict[str, Any]:
    price = quote.price
    return {
        "object": "quote",
        "input_file_id": file,
        "endpoint": endpoint,
        "model": quote.model,
        "assurance": wish,
        "assurance_ppm": quote.assurance_ppm,
        "trusted": quote.trusted,
        "requests": {"total": quote.requests, "refused": quote.refused},
        "rows": quote.rows,
        "tokens": quote.tokens,
        "work": price.work,
        "unit_price": price.unit,
        "pay": price.pay,
        "check": price.check,
        "fee": price.fee,
        "total": price.total,
    }

"""``/api/v1/accounts/me/statement``: what an account earned or spent, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import UTC, date, datetime
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.accounts import Account
from pool.http.auth import any_account
from pool.http.bodies import invalid
from pool.http.deps import deps_of
from pool.http.errors import ApiError, JsonResponse
from pool.store import Store
from pool.store.statements import (
    CustomerLine,
    Line,
    Span,
    customer_lines,
    miner_statement,
    span_of,
)

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


async def get_statement(request: Request) -> Response:
    """The days from ``from`` to before ``to``, by default the last 30."""
    return await statement_answer(request, await any_account(request))


async def statement_answer(request: Request, account: Account) -> Response:
    """An account's statement, as the query asks for it. Raises ``ApiError``."""
    deps = deps_of(request)
    form = request.query_params.get("format", "json")
    if form not in ("json", "csv"):
        raise invalid("format", "must be json or csv")
    first, end = _date(request, "from"), _date(request, "to")
    try:
        span = span_of(first, end, deps.clock.now())
    except (ValueError, OverflowError) as error:
        raise invalid("from", str(error)) from None
    if account.role == "operator":
        raise ApiError(403, "wrong_role", "an operator's account has no statement")
    found = await trio.to_thread.run_sync(read_statement, deps.store, account, span)
    if form == "json":
        return JsonResponse(found)
    text = _csv(found["columns"], found["data"])
    name = f"{account.name}-{found['from']}-{found['to']}.csv"
    return Response(
        text,
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


def read_statement(store: Store, account: Account, span: Span) -> dict[str, Any]:
    """A miner's or a customer's statement, ready for JSON."""
    facts: dict[str, Any] = {
        "object": "statement",
        "account": account.name,
        "role": account.role,
        "from": _day(span.first),
        "to": _day(span.end),
        "columns": [
            field.name for field in fields(Line if account.role == "miner" else CustomerLine)
        ],
    }
    with store.database.read() as connection:
        if account.role == "customer":
            lines = [asdict(one) for one in customer_lines(connection, account.name, span)]
            return facts | {"data": lines}
        found = miner_statement(connection, account.name, span)
    return facts | {
        "data": [asdict(line) for line in found.lines],
        "totals": found.totals(),
        "movements": [asdict(one) for one in found.movements],
        "now": found.now,
    }


def _csv(names: list[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _date(request: Request, name: str) -> date | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise invalid(name, "must be a day, such as 2026-11-30") from None


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


ROUTES = [Route("/api/v1/accounts/me/statement", get_statement, methods=["GET"])]

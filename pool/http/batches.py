"""``/v1/batches``: hand in, look, list, cancel."""

from __future__ import annotations

from typing import Any

import httpx
import sqlalchemy as sa
import structlog
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.batches.corrections import places_of
from pool.batches.endpoints import OPERATIONS
from pool.batches.naming import lines_object, new_batch_id, window_seconds
from pool.http.auth import customer
from pool.http.batch_shape import batch_shape
from pool.http.bodies import expiry_seconds, invalid, page, page_limit, read_object
from pool.http.deps import HttpDeps, deps_of
from pool.http.errors import ApiError, JsonResponse
from pool.store.corrections import correction_count, corrections_of
from pool.store.files import find_file
from pool.store.jobs import (
    JobRow,
    add_job,
    block_sizes,
    find_batch,
    find_job,
    list_batches,
    refund_of,
)
from shares.trust.assurance import FIELD, FULL, KEY, AssuranceError, parse_assurance

_log = structlog.get_logger("pool.http")

PARAMETERS = frozenset(
    {"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"}
)


async def create_batch(request: Request) -> Response:
    """Make a batch of an uploaded file; validation follows."""
    deps = deps_of(request)
    account = await customer(request)
    row = await add_batch(deps, account.name, await read_object(request, PARAMETERS))
    return JsonResponse(_shape(deps, row, 0, 0))


async def add_batch(deps: HttpDeps, account: str, body: dict[str, Any]) -> JobRow:
    """Make a batch; validation follows. Raises ``ApiError``."""
    values = checked_batch(deps, body)

    def insert() -> JobRow:
        with deps.store.database.write() as connection:
            at = deps.clock.now()
            input_file(connection, account, values["input_file"], at)
            seconds = values.pop("seconds")
            job = add_job(
                connection,
                batch=new_batch_id(),
                account=account,
                direct=False,
                state="validating",
                created=at,
                expires_at=at + seconds,
                **values,
            )
            return find_job(connection, job)

    row = await trio.to_thread.run_sync(insert)
    _bind(row)
    _log.info("batch created", endpoint=row.endpoint)
    deps.runner.submitted(row.id)
    return row


async def get_batches(request: Request) -> Response:
    """A page of the customer's batches, newest first."""
    deps = deps_of(request)
    account = await customer(request)
    limit = page_limit(request, 20, 100)
    after = request.query_params.get("after")

    def read() -> list[tuple[JobRow, int, int]]:
        with deps.store.database.read() as connection:
            edge = None
            if after:
                found = find_batch(connection, account.name, after)
                if found is None:
                    raise invalid("after", "there is no such batch")
                edge = found.id
            rows = list_batches(connection, account.name, after=edge, limit=limit + 1)
            return [
                (row, refund_of(connection, row), correction_count(connection, row.id))
                for row in rows
            ]

    rows = await trio.to_thread.run_sync(read)
    shapes = [_shape(deps, *one) for one in rows[:limit]]
    return JsonResponse(page(shapes, more=len(rows) > limit))


async def get_batch(request: Request) -> Response:
    """One batch."""
    return JsonResponse(_shape(deps_of(request), *await _find(request)))


async def cancel_batch(request: Request) -> Response:
    """Stop a batch; what is done is delivered, the rest is not charged."""
    row, _, _ = await _find(request)
    await cancel_running(deps_of(request), row)
    return await get_batch(request)


async def cancel_running(deps: HttpDeps, row: JobRow) -> None:
    """Stop a batch. Raises ``ApiError`` 400 when it is over."""
    _bind(row)
    if row.state in ("completed", "failed", "expired", "finalizing"):
        text = f"this batch is {row.state}: there is nothing to cancel"
        raise ApiError(400, "batch_not_cancellable", text)
    _log.info("batch is cancelled")
    await deps.runner.cancel(row.id)


async def get_corrections(request: Request) -> Response:
    """Delivered rows of a batch that turned out wrong, as they were found."""
    row, _, _ = await _find(request)
    found = await corrections_to(deps_of(request), row)
    return JsonResponse({"object": "list", "data": found, "has_more": False})


async def corrections_to(deps: HttpDeps, row: JobRow) -> list[dict[str, Any]]:
    """A batch's corrections as the API tells them."""

    def read() -> list[dict[str, Any]]:
        with deps.store.database.read() as connection:
            found = corrections_of(connection, row.id)
            blocks = [
                (deps.store.objects.local_path(name), rows)
                for name, rows in block_sizes(connection, row.id)
            ]
        lines = deps.store.objects.local_path(lines_object(row.id))
        places = places_of(lines, blocks, [(one.block, one.row) for one in found])
        return [
            {
                "object": "batch.correction",
                "custom_id": places[one.block, one.row].custom_id,
                "line": places[one.block, one.row].line,
                "index": places[one.block, one.row].index,
                "given": one.given.hex(),
                "expected": one.expected.hex(),
                "at": one.at,
            }
            for one in found
        ]

    return await trio.to_thread.run_sync(read)


ROUTES = [
    Route("/v1/batches", create_batch, methods=["POST"]),
    Route("/v1/batches", get_batches, methods=["GET"]),
    Route("/v1/batches/{batch}", get_batch, methods=["GET"]),
    Route("/v1/batches/{batch}/corrections", get_corrections, methods=["GET"]),
    Route("/v1/batches/{batch}/cancel", cancel_batch, methods=["POST"]),
]


def _shape(deps: HttpDeps, row: JobRow, refund: int, corrections: int) -> dict[str, Any]:
    return batch_shape(row, deps.core.progress(row.id), refund, corrections)


async def _find(request: Request) -> tuple[JobRow, int, int]:
    account = await customer(request)
    return await batch_of(deps_of(request), account.name, request.path_params["batch"])


async def batch_of(deps: HttpDeps, account: str, name: str) -> tuple[JobRow, int, int]:
    """An account's batch, what of it was refunded, and its corrections. Raises ``ApiError`` 404."""

    def read() -> tuple[JobRow, int, int] | None:
        with deps.store.database.read() as connection:
            row = find_batch(connection, account, name)
            if row is None:
                return None
            return row, refund_of(connection, row), correction_count(connection, row.id)

    found = await trio.to_thread.run_sync(read)
    if found is None:
        raise ApiError(404, "batch_not_found", f"there is no batch {name[:80]!r}", param="batch_id")
    _bind(found[0])
    return found


def _bind(row: JobRow) -> None:
    """What is logged of the request says from now on which batch it is about."""
    structlog.contextvars.bind_contextvars(batch=row.batch, job=row.id)


def input_file(connection: sa.Connection, account: str, file: str, now: float) -> None:
    """Look for the file that a batch is to be made of. Raises ``ApiError`` when it is not there."""
    found = find_file(connection, account, file, now)
    if found is None or found.purpose != "batch":
        text = "input_file_id: there is no such file with the purpose batch"
        raise ApiError(400, "file_not_found", text, param="input_file_id")


def checked_batch(deps: HttpDeps, body: dict[str, Any]) -> dict[str, Any]:
    """Columns of the job, and ``seconds`` until it expires. Raises ``ApiError``."""
    file, endpoint = body.get("input_file_id"), body.get("endpoint")
    if not isinstance(file, str) or not file:
        raise invalid("input_file_id", "must be the id of an uploaded file")
    if not isinstance(endpoint, str) or endpoint not in OPERATIONS:
        raise invalid("endpoint", f"must be one of {', '.join(OPERATIONS)}")
    window = body.get("completion_window")
    seconds = window_seconds(window) if isinstance(window, str) else None
    if seconds is None:
        raise invalid("completion_window", 'must be "24h" or another time such as "90m" or "7d"')
    expiry = body.get("output_expires_after")
    if expiry is not None:
        if not isinstance(expiry, dict):
            raise invalid("output_expires_after", "must be an object with anchor and seconds")
        name = "output_expires_after"
        expiry = expiry_seconds(expiry.get("anchor"), expiry.get("seconds"), name)
    metadata = _metadata(deps, body.get("metadata"))
    return {
        "webhook": _webhook(deps, metadata),
        "input_file": file,
        "endpoint": endpoint,
        "completion_window": window,
        "metadata": metadata,
        "output_expires_after": expiry,
        # The operator's limit holds whatever the customer allows.
        "seconds": min(seconds, deps.config.batches.completion_window_seconds),
    }


def _webhook(deps: HttpDeps, metadata: dict[str, str] | None) -> str | None:
    """The address that the batch names to be told at. Raises ``ApiError``."""
    text = (metadata or {}).get("webhook")
    return None if text is None else webhook_address(deps, text, "metadata.webhook")


def webhook_address(deps: HttpDeps, text: str, field: str) -> str:
    """An address to be told at, as it is dialled. Raises ``ApiError``."""
    try:
        url = httpx.URL(text)
        host, path = url.raw_host.decode("ascii"), url.raw_path.decode("ascii")
        port = "" if url.port is None else f":{url.port}"
    except (httpx.InvalidURL, ValueError) as error:
        raise invalid(field, f"must be an https address: {error}") from None
    schemes = ("https", "http") if deps.config.http.webhooks_anywhere else ("https",)
    if url.scheme not in schemes or not host or url.userinfo or not 0 < (url.port or 1) < 65_536:
        raise invalid(field, "must be an https address such as https://example.org/hook")
    host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{host}{port}{path}"  # as it is dialled: all ASCII


def _metadata(deps: HttpDeps, value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > 16:
        raise invalid("metadata", "must be an object of at most 16 pairs")
    for key, text in value.items():
        if len(key) > 64 or not isinstance(text, str) or len(text) > 512:
            raise invalid("metadata", "keys have at most 64 characters, values are texts of 512")
    try:
        assurance = parse_assurance(value.get(KEY))
    except AssuranceError as error:
        raise ApiError(400, "invalid_value", str(error), param=FIELD) from None
    if assurance.trusted and not deps.config.trust.trusted:
        text = f'the operator names no trusted rigs: leave it out, or write "{FULL}"'
        raise invalid(FIELD, text)
    return value

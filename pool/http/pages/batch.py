"""``/batches/ID``: how far a batch is, what it cost, what was corrected, its output."""

from __future__ import annotations

from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from pool.http.batch_shape import batch_shape
from pool.http.batches import batch_of, cancel_running, corrections_to
from pool.http.errors import ApiError
from pool.http.pages.frame import HEADERS, Page, guarded, see
from pool.http.pages.visits import Visit, need_role, read_form, visit_of
from pool.store.files import find_file
from pool.store.jobs import JobRow

_SHOWN = 200  # corrections on the page; the API has all of them
STAGES = ("validating", "in_progress", "finalizing", "completed")


async def _load(visit: Visit) -> dict[str, Any]:
    row, refund, corrections = await _find(visit)
    progress = visit.deps.core.progress(row.id)
    wrong = await corrections_to(visit.deps, row) if corrections else []
    return {
        "corrections": wrong[:_SHOWN],
        "row": row,
        "batch": batch_shape(row, progress, refund, corrections),
        "progress": progress,
        "stages": STAGES,
        "now": visit.now,
    }


PAGE = Page("/batches/{batch}", "batch.html", _load, live=("batch_state", "batch_result"))


async def get_output(request: Request) -> Response:
    """The file of answers (``output``) or of refused lines (``errors``)."""
    visit = await visit_of(request)
    row, _, _ = await _find(visit)
    which = visit.param("which")
    name = {"output": row.output_file, "errors": row.error_file}.get(which)
    deps, account = visit.deps, row.account

    def read() -> Any:
        with deps.store.database.read() as connection:
            return None if name is None else find_file(connection, account, name, visit.now)

    file = await trio.to_thread.run_sync(read)
    if file is None:
        raise ApiError(404, "file_not_found", f"this batch has no {which}: it is {row.state}")
    return FileResponse(
        deps.store.objects.local_path(file.object),
        media_type="application/octet-stream",
        filename=file.filename,
        headers=HEADERS,
    )


async def post_cancel(request: Request) -> Response:
    """Stop the batch."""
    visit = await visit_of(request)
    await read_form(request)
    row, _, _ = await _find(visit)
    try:
        await cancel_running(visit.deps, row)
    except ApiError as error:
        return await PAGE.show(visit, error.status, problem=str(error))
    return see(f"/batches/{row.batch}")


async def _find(visit: Visit) -> tuple[JobRow, int, int]:
    viewer = need_role(visit, "customer")
    return await batch_of(visit.deps, viewer.name, visit.param("batch"))


ROUTES = [
    Route("/batches/{batch}/cancel", guarded(post_cancel), methods=["POST"]),
    Route("/batches/{batch}/{which}", guarded(get_output), methods=["GET"]),
    Route(PAGE.path, guarded(PAGE.get), methods=["GET"]),
]

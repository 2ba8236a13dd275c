"""``/v1/files``: uploads, outputs, their content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from pool.batches.naming import file_object, new_file_id
from pool.crashpoints import crash_point
from pool.http.auth import customer
from pool.http.bodies import expiry_seconds, invalid, page, page_limit
from pool.http.deps import HttpDeps, deps_of
from pool.http.errors import ApiError, JsonResponse
from pool.http.uploads import Upload, receive_upload
from pool.store.files import StoredFile, add_file, find_file, list_files, mark_file_deleted
from pool.store.jobs import input_in_use

_MAX_PAGE = 10_000


def file_shape(file: StoredFile) -> dict[str, Any]:
    """A file as the API tells it."""
    shape: dict[str, Any] = {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": file.status,
        "status_details": file.status_details,
    }
    if file.expires is not None:
        shape["expires_at"] = int(file.expires)
    return shape


async def create_file(request: Request) -> Response:
    """Store an upload; it is validated when a batch is made of it."""
    account = await customer(request)
    return JsonResponse(file_shape(await take_upload(request, account.name, lambda _: None)))


async def take_upload(
    request: Request, account: str, check: Callable[[dict[str, str]], None]
) -> StoredFile:
    """Store the form's file, unless ``check`` refuses its other fields. Raises ``ApiError``."""
    deps = deps_of(request)
    name = new_file_id()
    folder = deps.runner.scratch / "uploads"
    path = folder / name
    await trio.to_thread.run_sync(_make_folder, folder)
    try:
        upload = await receive_upload(request, path, deps.config.http.max_upload_bytes)
        check(upload.fields)
        file = _described(upload, name, account, deps.clock.now())
        await trio.to_thread.run_sync(_keep, deps, path, file)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))
    return file


async def get_files(request: Request) -> Response:
    """A page of the customer's files."""
    deps = deps_of(request)
    account = await customer(request)
    limit = page_limit(request, _MAX_PAGE, _MAX_PAGE)
    query = request.query_params
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order", 'must be "asc" or "desc"')

    def read() -> list[StoredFile]:
        now = deps.clock.now()
        with deps.store.database.read() as connection:
            after = None
            if query.get("after"):
                after = find_file(connection, account.name, query["after"], now)
                if after is None:
                    raise invalid("after", "there is no such file")
            return list_files(
                connection,
                account.name,
                now,
                purpose=query.get("purpose") or None,
                after=after,
                limit=limit + 1,
                newest_first=order == "desc",
            )

    files = await trio.to_thread.run_sync(read)
    shapes = [file_shape(file) for file in files[:limit]]
    return JsonResponse(page(shapes, more=len(files) > limit))


async def get_file(request: Request) -> Response:
    """One file."""
    return JsonResponse(file_shape(await _find(request)))


async def get_content(request: Request) -> Response:
    """A file's bytes, in pieces; ranges are served."""
    file = await _find(request)
    path = deps_of(request).store.objects.local_path(file.object)
    return FileResponse(path, media_type="application/octet-stream", filename=file.filename)


async def delete_file(request: Request) -> Response:
    """Forget a file. An input that is being validated stays until that is over."""
    deps = deps_of(request)
    file = await _find(request)

    def delete() -> None:
        with deps.store.database.write() as connection:
            if input_in_use(connection, file.id):
                text = "a batch is being made of this file: delete it once that is validated"
                raise ApiError(400, "file_in_use", text, param="file_id")
            mark_file_deleted(connection, file.account, file.id)
        deps.store.objects.delete(file.object)

    await trio.to_thread.run_sync(delete)
    return JsonResponse({"id": file.id, "object": "file", "deleted": True})


ROUTES = [
    Route("/v1/files", create_file, methods=["POST"]),
    Route("/v1/files", get_files, methods=["GET"]),
    Route("/v1/files/{file}", get_file, methods=["GET"]),
    Route("/v1/files/{file}", delete_file, methods=["DELETE"]),
    Route("/v1/files/{file}/content", get_content, methods=["GET"]),
]


async def _find(request: Request) -> StoredFile:
    deps = deps_of(request)
    account = await customer(request)
    name = request.path_params["file"]

    def read() -> StoredFile | None:
        with deps.store.database.read() as connection:
            return find_file(connection, account.name, name, deps.clock.now())

    found = await trio.to_thread.run_sync(read)
    if found is None:
        raise ApiError(404, "file_not_found", f"there is no file {name[:80]!r}", param="file_id")
    return found


def _described(upload: Upload, name: str, account: str, at: float) -> StoredFile:
    fields = dict(upload.fields)
    if fields.pop("purpose", None) != "batch":
        raise invalid("purpose", 'must be "batch"')
    anchor = fields.pop("expires_after[anchor]", None)
    seconds = fields.pop("expires_after[seconds]", None)
    expires = None
    if anchor is not None or seconds is not None:
        digits = (seconds or "").isascii() and (seconds or "").isdecimal()
        number = int((seconds or "")[:9]) if digits else None
        expires = at + expiry_seconds(anchor, number, "expires_after")
    assert upload.filename is not None  # a form without a file was refused
    return StoredFile(
        id=name,
        account=account,
        purpose="batch",
        filename=upload.filename,
        bytes=upload.bytes,
        object=file_object(name),
        sha256=upload.sha256,
        status="processed",
        created=at,
        expires=expires,
    )


def _keep(deps: HttpDeps, path: Path, file: StoredFile) -> None:
    deps.store.objects.put_file(file.object, path)
    with deps.store.database.write() as connection:
        add_file(connection, file)
        crash_point("upload.before_commit")
    crash_point("upload.committed")


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)

"""An uploaded file, from the socket straight to the disk."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from email.message import Message
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import trio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import ClientDisconnect, Request

from pool.http.errors import ApiError

_FLUSH = 1 << 20  # bytes gathered before a thread writes them
_MAX_FIELD = 64 << 10
_MAX_FIELDS = 16


@dataclass(slots=True)
class Upload:
    """What a multipart form held: its fields as text, and the file as it lies on the disk."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    bytes: int = 0
    sha256: str = ""


async def receive_upload(request: Request, path: Path, max_bytes: int) -> Upload:
    """Write the form's part ``file`` to ``path``. Raises ``ApiError``; the caller removes the file.

    Memory: about a mebibyte, whatever the file's size.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes + _MAX_FIELDS * _MAX_FIELD:
        raise _too_large(max_bytes)
    file = await trio.to_thread.run_sync(path.open, "wb")
    try:
        form = _Form(boundary, file, max_bytes)
        try:
            # Closed here, not by the garbage collector, when a bad form is left halfway.
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    form.feed(chunk)
                    if len(form.pending) >= _FLUSH:
                        await trio.to_thread.run_sync(form.flush)
        except FormParserError as error:
            raise _malformed(str(error)) from None
        except ClientDisconnect:
            raise _malformed("the connection broke") from None
        await trio.to_thread.run_sync(form.flush)
        return form.done()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(file.close)


class _Form:
    """Takes a form apart as its bytes come."""

    def __init__(self, boundary: bytes, file: BinaryIO, max_bytes: int) -> None:
        self.pending = bytearray()  # of the file, not yet written
        self._upload = Upload()
        self._file = file
        self._max_bytes = max_bytes
        self._hash = sha256()
        self._headers: dict[str, str] = {}
        self._header = (bytearray(), bytearray())  # name, value
        self._field: bytearray | None = None  # the value being read; None inside the file
        self._name = ""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body."""
        self._parser.write(chunk)

    def flush(self) -> None:
        """Write what is pending. In a thread."""
        data, self.pending = self.pending, bytearray()
        self._file.write(data)
        self._hash.update(data)

    def done(self) -> Upload:
        """What the form held, once everything is flushed."""
        if not self._ended:
            raise _malformed("its closing boundary is missing")
        if self._upload.filename is None:
            raise ApiError(
                400, "missing_file", "file: the form has no part of that name", param="file"
            )
        self._upload.sha256 = self._hash.hexdigest()
        return self._upload

    def _part_begin(self) -> None:
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _header_end(self) -> None:
        name, value = (part.decode("utf-8", "replace") for part in self._header)
        self._headers[name.lower()] = value
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        message = Message()
        message["content-disposition"] = self._headers.get("content-disposition", "")
        self._name = _text(message.get_param("name", "", "content-disposition"))
        if self._name != "file":
            if len(self._upload.fields) >= _MAX_FIELDS:
                raise _malformed("it has too many fields")
            self._field = bytearray()
            return
        if self._upload.filename is not None:
            raise _malformed("it has two parts named file")
        self._field = None
        self._upload.filename = _base_name(message.get_filename() or "upload")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._upload.bytes += end - start
            if self._upload.bytes > self._max_bytes:
                raise _too_large(self._max_bytes)
            self.pending += data[start:end]
            return
        self._field += data[start:end]
        if len(self._field) > _MAX_FIELD:
            raise _malformed(f"the field {self._name[:80]!r} is too long")

    def _part_end(self) -> None:
        if self._field is not None:
            self._upload.fields[self._name] = self._field.decode("utf-8", "replace")

    def _end(self) -> None:
        self._ended = True


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/form-data" or not boundary:
        raise ApiError(
            400,
            "invalid_form",
            "send multipart/form-data with the parts file and purpose",
        )
    return boundary.encode("latin-1", "replace")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _base_name(filename: str) -> str:
    """The last part of a name, whichever slashes it has, of a bearable length."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(character for character in name if character.isprintable())
    return name[:255] or "upload"


def _malformed(problem: str) -> ApiError:
    return ApiError(400, "invalid_form", f"the form cannot be read: {problem}")


def _too_large(max_bytes: int) -> ApiError:
    text = f"file: may have at most {max_bytes} bytes here: split it into several batches"
    return ApiError(413, "file_too_large", text, param="file")

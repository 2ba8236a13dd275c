"""A customer's side of the HTTP API: hand a batch in, watch it, fetch what came out.

What ``inferpool submit`` and the demo are made of. It runs under trio, and knows of the pool only
what any customer does: its address and a key.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import httpx
import msgspec
import trio

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
EMBEDDINGS = "/v1/embeddings"

_PATIENCE = httpx.Timeout(60.0, connect=10.0)
_LONGEST_PAUSE = 10.0


class CustomerError(Exception):
    """A request did not succeed; the text says why and what to do. ``code`` is the API's."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class NoAnswerError(CustomerError):
    """Nobody answered."""


class Counts(msgspec.Struct, frozen=True):
    """Requests of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class LineError(msgspec.Struct, frozen=True):
    """Why a file was refused; ``line`` counts from 1."""

    code: str = ""
    line: int | None = None
    message: str = ""
    param: str | None = None


class LineErrors(msgspec.Struct, frozen=True):
    """The first of the reasons."""

    data: list[LineError] = []


class Speed(msgspec.Struct, frozen=True):
    """What the pool adds to a batch: ``rate`` in work a second, ``eta`` in seconds."""

    rate: float | None = None
    eta: float | None = None


class Batch(msgspec.Struct, frozen=True):
    """A batch as the pool tells it; ``raw`` is the whole answer."""

    id: str
    status: str
    request_counts: Counts | None = None
    errors: LineErrors | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    inferpool: Speed | None = None
    raw: dict[str, Any] = {}

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in TERMINAL

    @property
    def counts(self) -> Counts:
        """The counts, all zero while the file is validated."""
        return self.request_counts or Counts()


class Quote(msgspec.Struct, frozen=True):
    """What a batch would cost, in units; ``raw`` is the whole answer."""

    model: str
    rows: int
    work: int
    unit_price: int
    pay: int
    check: int
    fee: int
    total: int
    balance: int
    assurance_ppm: int = 0
    requests: dict[str, int] = {}
    raw: dict[str, Any] = {}


def api_root(url: str) -> str:
    """``http://HOST:PORT``, with or without ``/v1`` at its end. Raises ``CustomerError``."""
    root = url.rstrip("/").removesuffix("/v1")
    if not root.startswith(("http://", "https://")):
        raise CustomerError(f"--url {url}: write http://HOST:PORT or https://HOST:PORT")
    return root


class Customer:
    """An open connection to a pool; an async context manager.

    Every method raises ``NoAnswerError`` when nobody answers, and ``CustomerError`` with the API's
    own words when the pool refuses.
    """

    def __init__(self, url: str, key: str | None) -> None:
        self._root = api_root(url)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(base_url=self._root, headers=headers, timeout=_PATIENCE)

    async def __aenter__(self) -> Customer:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def upload(self, path: Path, name: str, sent: Callable[[int], None]) -> str:
        """Stream a batch's input; ``sent`` is told the bytes read so far. Returns the file's id."""
        with path.open("rb") as stream:
            answer = await self._ask(
                "POST",
                "/v1/files",
                data={"purpose": "batch"},
                files={"file": (name, _Counted(stream, sent), "application/jsonl")},
                timeout=httpx.Timeout(600.0, connect=10.0),
            )
        return str(answer["id"])

    async def create_batch(self, file: str, endpoint: str, assurance: str | None = None) -> Batch:
        """Start a batch over an uploaded file."""
        body = _wish(file, endpoint, assurance) | {"completion_window": "24h"}
        return _batch(await self._ask("POST", "/v1/batches", json=body))

    async def quote(self, file: str, endpoint: str, assurance: str | None = None) -> Quote:
        """What a batch over an uploaded file would cost; the pool reads all of it first."""
        body = _wish(file, endpoint, assurance)
        patience = httpx.Timeout(3600.0, connect=10.0)
        answer = await self._ask("POST", "/api/v1/quotes", json=body, timeout=patience)
        return _quote(answer)

    async def delete_file(self, file: str) -> None:
        """Delete an uploaded file."""
        await self._ask("DELETE", f"/v1/files/{file}")

    async def batch(self, batch: str) -> Batch:
        """How a batch stands."""
        return _batch(await self._ask("GET", f"/v1/batches/{batch}"))

    async def wait(
        self,
        batch: str,
        seen: Callable[[Batch], None],
        lost: Callable[[str], None] = lambda _: None,
        every: float = 0.5,
    ) -> Batch:
        """Ask every ``every`` seconds until the batch is over, telling ``seen`` each answer.

        A batch outlives its pool's restarts, so a pool that does not answer is told to ``lost``
        and asked again.
        """
        pause = every
        while True:
            try:
                found = await self.batch(batch)
            except NoAnswerError as error:
                lost(str(error))
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                seen(found)
                if found.over:
                    return found
                pause = every
            await trio.sleep(pause)

    async def download(self, file: str, path: Path) -> int:
        """Write a file's content to ``path``, whole or not at all. Returns its bytes."""
        unfinished = path.with_name(path.name + ".part")
        written = 0
        try:
            async with self._http.stream("GET", f"/v1/files/{file}/content") as response:
                if response.is_error:
                    await response.aread()
                    raise _refusal(response)
                async with await trio.open_file(unfinished, "wb") as out:
                    async for piece in response.aiter_bytes():
                        written += await out.write(piece)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        unfinished.replace(path)
        return written

    async def embed(self, model: str, texts: Sequence[str]) -> list[bytes]:
        """Vectors of ``texts``, each little-endian float32, by one direct request."""
        body = {"model": model, "input": list(texts), "encoding_format": "base64"}
        answer = await self._ask("POST", EMBEDDINGS, json=body)
        vectors = sorted(answer["data"], key=lambda item: item["index"])
        return [base64.b64decode(item["embedding"]) for item in vectors]

    async def get(self, path: str) -> dict[str, Any]:
        """Any other answer of the pool, such as ``/api/v1/status``."""
        return await self._ask("GET", path)

    async def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refusal(response)
        try:
            answer = msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.DecodeError:
            raise CustomerError(
                f"{self._root}{path} did not answer in JSON: is this a pool's HTTP address?"
            ) from None
        return answer

    def _unreachable(self, error: httpx.TransportError) -> NoAnswerError:
        reason = str(error) or type(error).__name__
        return NoAnswerError(
            f"no answer from {self._root} ({reason}): is the pool running, and is this its address?"
        )


class _Counted:
    """A file that tells how much of it was read."""

    def __init__(self, stream: BinaryIO, told: Callable[[int], None]) -> None:
        self._stream = stream
        self._told = told

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._told(self._stream.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def fileno(self) -> int:
        return self._stream.fileno()


def _batch(answer: dict[str, Any]) -> Batch:
    try:
        return msgspec.structs.replace(msgspec.convert(answer, Batch), raw=answer)
    except msgspec.ValidationError as error:
        raise CustomerError(f"the pool's batch object is not understood: {error}") from None


def _wish(file: str, endpoint: str, assurance: str | None) -> dict[str, Any]:
    wish: dict[str, Any] = {"input_file_id": file, "endpoint": endpoint}
    return wish if assurance is None else wish | {"metadata": {"assurance": assurance}}


def _quote(answer: dict[str, Any]) -> Quote:
    try:
        return msgspec.structs.replace(msgspec.convert(answer, Quote), raw=answer)
    except msgspec.ValidationError as error:
        raise CustomerError(f"the pool's quote is not understood: {error}") from None


def _refusal(response: httpx.Response) -> CustomerError:
    code: str | None = None
    message = response.text[:500]
    try:
        error = msgspec.json.decode(response.content)["error"]
        message, code = str(error["message"]), error.get("code")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        pass
    if response.status_code == 401:
        message += " (check the key: --key-file names the file that holds a customer's token)"
    return CustomerError(f"the pool refused with {response.status_code}: {message}", code)

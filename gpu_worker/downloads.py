"""The model cache: files by SHA-256, fetched over HTTP, resumed, verified, shared by rigs.

Several rigs on one machine may use one folder. A file is guarded by a lock of its own: exclusive
while it is fetched or evicted, shared while a rig uses it. Locks are the kernel's (``flock``), so
a rig that is killed leaves none behind. Whoever fetches a file writes its size into the lock's
file, so that others leave room for what is still to come. A file's name in the cache is its
digest; the names in a manifest never become paths.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx
import structlog
import trio

from stratum.manifest import File

log = structlog.get_logger()

ATTEMPTS = 5
"""Tries in a row without a byte of progress before a download is given up."""
WHOLE_ATTEMPTS = 3
"""Downloads of a whole file with a wrong digest before it is given up."""
_LOCK_POLL = 0.2
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORTH_ANOTHER_TRY = frozenset({408, 416, 425, 429, 500, 502, 503, 504})


class DownloadError(Exception):
    """A file cannot be had; the text says which and why."""


class FilesInUse:
    """Shared locks on the files that an engine was loaded from: they are not evicted."""

    def __init__(self) -> None:
        self._locks: list[IO[bytes]] = []

    def __enter__(self) -> FilesInUse:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, lock: IO[bytes]) -> None:
        """Keep an open lock file until ``close``."""
        self._locks.append(lock)

    def close(self) -> None:
        """Let the files go."""
        while self._locks:
            self._locks.pop().close()


class ModelCache:
    """A folder of model files, at most ``limit`` bytes; the least recently used leave first.

    ``retry_wait`` is the first wait, in seconds, after a failed try; it doubles up to 30 s.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit: int,
        tls: ssl.SSLContext | bool = True,
        retry_wait: float = 1.0,
    ) -> None:
        self._files = folder / "files"
        self._locks = folder / "locks"
        self._limit = limit
        self._tls = tls
        self._retry_wait = retry_wait

    async def fetch(
        self,
        files: tuple[File, ...],
        urls: Mapping[str, str],
        in_use: FilesInUse,
    ) -> dict[str, Path]:
        """Return {name: path} of verified ``files``, fetching those that are not in the cache.

        ``urls`` is {name: absolute http(s) URL}; it may change while a download waits for its
        next try. Locks that keep the files are added to ``in_use``. Raises ``DownloadError``.
        """
        paths = {}
        for file in files:
            paths[file.name] = await self._have(file, urls, in_use)
        return paths

    async def _have(self, file: File, urls: Mapping[str, str], in_use: FilesInUse) -> Path:
        if not _SHA256.fullmatch(file.sha256):
            raise DownloadError(f"file {file.name!r}: its sha256 is not 64 hex digits")
        try:
            await trio.to_thread.run_sync(self._prepare)
        except OSError as error:
            raise DownloadError(
                f"the cache folder {self._files.parent} cannot be written: {error.strerror}; "
                "choose another with --cache"
            ) from error
        path = self._files / file.sha256
        while True:
            lock = await self._locked(file.sha256, fcntl.LOCK_SH)
            try:
                if await trio.to_thread.run_sync(_is_intact, path, file):
                    os.utime(path)  # its turn to be evicted comes last
                    in_use.add(lock)
                    return path
            except BaseException:
                lock.close()
                raise
            lock.close()
            with await self._locked(file.sha256, fcntl.LOCK_EX) as lock:
                # Another rig may have fetched it while this one waited for the lock.
                if not await trio.to_thread.run_sync(_is_intact, path, file):
                    path.unlink(missing_ok=True)
                    await self._download(file, urls, path, lock)

    def _prepare(self) -> None:
        self._files.mkdir(parents=True, exist_ok=True)
        self._locks.mkdir(parents=True, exist_ok=True)

    async def _locked(self, digest: str, kind: int) -> IO[bytes]:
        """Open and lock a file's lock. It polls: a thread blocked in flock cannot be cancelled."""
        lock = (self._locks / digest).open("ab")
        try:
            while not _try_lock(lock, kind):  # noqa: ASYNC110 - other processes hold it
                await trio.sleep(_LOCK_POLL)
        except BaseException:
            lock.close()
            raise
        return lock

    async def _download(
        self, file: File, urls: Mapping[str, str], path: Path, lock: IO[bytes]
    ) -> None:
        """Fetch ``file`` to ``path``; the caller holds its ``lock``."""
        partial = path.with_suffix(".part")
        # One at a time: two that made room at once would both take the same.
        with await self._locked("room", fcntl.LOCK_EX):
            await trio.to_thread.run_sync(self._make_room, file, partial)
            lock.truncate(0)
            lock.write(b"%d" % file.size)
            lock.flush()
        failures = 0
        mismatches = 0
        async with httpx.AsyncClient(
            verify=self._tls,
            follow_redirects=True,
            timeout=httpx.Timeout(30.0, connect=10.0),
            headers={"Accept-Encoding": "identity"},
        ) as client:
            while True:
                before = _size(partial)
                try:
                    await self._continue(client, file, urls, partial)
                    if await trio.to_thread.run_sync(_is_intact, partial, file):
                        await trio.to_thread.run_sync(_publish, partial, path)
                        log.info("file fetched", file=file.name, bytes=file.size)
                        return
                    await trio.to_thread.run_sync(partial.unlink)
                    reason = "its bytes do not have the digest that the manifest names"
                    mismatches += 1
                except (httpx.HTTPError, _TryAgain) as error:
                    reason = str(error) or type(error).__name__
                    failures = 0 if _size(partial) > before else failures + 1
                except OSError as error:
                    raise DownloadError(f"file {file.name!r}: {error}") from error
                if failures >= ATTEMPTS or mismatches >= WHOLE_ATTEMPTS:
                    raise DownloadError(
                        f"file {file.name!r} failed {failures + mismatches} times; "
                        f"at last: {reason}"
                    )
                wait = min(30.0, self._retry_wait * 2.0 ** max(0, failures - 1))
                log.warning("download is tried again", file=file.name, reason=reason, wait=wait)
                await trio.sleep(wait)

    async def _continue(
        self, client: httpx.AsyncClient, file: File, urls: Mapping[str, str], partial: Path
    ) -> None:
        """Bring ``partial`` to its full size, from where an earlier try left it."""
        have = _resumable(partial, file.size)
        if have == file.size:
            return
        url = urls.get(file.name)
        if url is None:
            raise DownloadError(f"file {file.name!r}: the pool gave no address for it")
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with client.stream("GET", url, headers=headers) as response:
            have = self._check_answer(file, response, have, partial)
            with partial.open("r+b" if have else "wb") as out:
                out.seek(have)
                out.truncate()
                async for chunk in response.aiter_raw():
                    have += len(chunk)
                    if have > file.size:
                        out.truncate(0)
                        raise _TryAgain(f"the server sent more than {file.size} bytes")
                    out.write(chunk)
        if have < file.size:
            raise _TryAgain(f"the answer ended after {have} of {file.size} bytes")

    @staticmethod
    def _check_answer(file: File, response: httpx.Response, have: int, partial: Path) -> int:
        """The offset at which the answer's bytes belong."""
        status = response.status_code
        if status == 416:
            partial.unlink(missing_ok=True)  # what is here is no beginning of what is there
        if status in _WORTH_ANOTHER_TRY:
            raise _TryAgain(f"the server answered {status}")
        if status not in (200, 206):
            raise DownloadError(f"file {file.name!r}: the server answered {status}")
        if status == 200:
            have = 0  # the server does not resume
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            partial.unlink(missing_ok=True)
            raise _TryAgain("the server resumed at another offset than was asked for")
        length = response.headers.get("Content-Length")
        if length is not None and int(length) != file.size - have:
            raise DownloadError(
                f"file {file.name!r}: the server offers {have + int(length)} bytes, "
                f"the manifest says {file.size}"
            )
        return have

    def _make_room(self, file: File, partial: Path) -> None:
        """Evict until ``file`` fits the limit; files that a rig uses stay."""
        if file.size > self._limit:
            raise DownloadError(
                f"file {file.name!r} has {file.size} bytes, the cache may hold {self._limit}; "
                "raise --cache-limit"
            )
        entries = sorted(
            (stat.st_mtime, self._final_size(path, stat.st_size), path)
            for path in self._files.iterdir()
            if path.stem != file.sha256 and (stat := _stat(path)) is not None
        )
        excess = sum(size for _, size, _ in entries) + file.size - self._limit
        for _, size, path in entries:
            if excess <= 0:
                break
            with self._lock_if_free(path.stem) as free:
                if free:
                    path.unlink(missing_ok=True)
                    excess -= size
                    log.info("file evicted from the cache", sha256=path.stem, bytes=size)
        if excess > 0:
            raise DownloadError(
                f"file {file.name!r} does not fit into the cache beside the files in use; "
                f"raise --cache-limit by {excess} bytes"
            )
        missing = file.size - _size(partial)
        free_bytes = shutil.disk_usage(self._files).free
        if missing > free_bytes:
            raise DownloadError(
                f"file {file.name!r} needs {missing} bytes, the disk of {self._files} has "
                f"{free_bytes} left; free some or choose another folder with --cache"
            )

    def _final_size(self, path: Path, size: int) -> int:
        """What an entry takes, or will take when the rig that fetches it now is done."""
        if path.suffix != ".part":
            return size
        with self._lock_if_free(path.stem) as free:
            if free:
                return size  # left behind by somebody
        try:
            return max(size, int((self._locks / path.stem).read_bytes()))
        except (OSError, ValueError):
            return size

    @contextmanager
    def _lock_if_free(self, digest: str) -> Iterator[bool]:
        with (self._locks / digest).open("ab") as lock:
            yield _try_lock(lock, fcntl.LOCK_EX)


class _TryAgain(Exception):  # noqa: N818 - it steers the retries and never leaves this file
    """A try failed in a way that another may not."""


def http_url(url: str) -> str:
    """Return ``url`` when it is http or https; raise ``DownloadError`` for anything else."""
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"the pool gave the address {url!r}, which is neither http nor https")
    return url


def _try_lock(lock: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _size(path: Path) -> int:
    stat = _stat(path)
    return 0 if stat is None else stat.st_size


def _resumable(partial: Path, size: int) -> int:
    """Make ``partial`` the beginning of a file of ``size`` bytes; returns the bytes it has."""
    with partial.open("ab") as out:
        have = out.tell()
        if have > size:
            out.truncate(0)
            return 0
        return have


def _is_intact(path: Path, file: File) -> bool:
    """Whether ``path`` holds exactly the bytes that the manifest names."""
    try:
        with path.open("rb") as source:
            if os.fstat(source.fileno()).st_size != file.size:
                return False
            return hashlib.file_digest(source, "sha256").hexdigest() == file.sha256
    except FileNotFoundError:
        return False


def _publish(partial: Path, path: Path) -> None:
    """Give a verified file its name, durably: a power cut leaves all of it or none."""
    with partial.open("rb") as done:
        os.fsync(done.fileno())
    partial.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""The model cache: resumed, verified, shared by processes, bounded."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from gpu_worker import downloads
from gpu_worker.downloads import DownloadError, FilesInUse, ModelCache, http_url
from stratum.manifest import File

BODY = random.Random(1).randbytes(300_000)


def described(body: bytes = BODY, name: str = "weights.bin") -> File:
    return File(name=name, size=len(body), sha256=sha256(body).hexdigest())


def cache_in(folder: Path, limit: int = 10**9) -> ModelCache:
    return ModelCache(folder, limit=limit, retry_wait=0.0)


async def fetch(cache: ModelCache, file: File, url: str) -> Path:
    with FilesInUse() as in_use:
        return (await cache.fetch((file,), {file.name: url}, in_use))[file.name]


def partial_of(folder: Path, file: File) -> Path:
    path = folder / "files" / f"{file.sha256}.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


async def test_a_file_is_fetched_once_and_named_by_its_digest(file_server, tmp_path) -> None:
    """The second use, and a second cache object on the same folder, ask the server nothing."""
    file_server.files["/w"] = BODY
    file = described()

    path = await fetch(cache_in(tmp_path), file, file_server.url("/w"))
    again = await fetch(cache_in(tmp_path), file, file_server.url("/gone"))

    assert path == again == tmp_path / "files" / file.sha256
    assert path.read_bytes() == BODY
    assert file_server.requests == [("/w", "")]
    assert not partial_of(tmp_path, file).exists()


async def test_an_answer_that_breaks_off_is_resumed_where_it_ended(file_server, tmp_path) -> None:
    """Twice cut short: each next request asks for the rest only."""
    file_server.files["/w"] = BODY
    file_server.mishaps += ["cut:100000", "cut:150000"]

    path = await fetch(cache_in(tmp_path), described(), file_server.url("/w"))

    assert path.read_bytes() == BODY
    assert [asked for _, asked in file_server.requests] == ["", "bytes=100000-", "bytes=250000-"]


async def test_a_download_that_another_run_left_behind_is_resumed(file_server, tmp_path) -> None:
    """A rig that was killed continues after its restart."""
    file_server.files["/w"] = BODY
    partial_of(tmp_path, described()).write_bytes(BODY[:1234])

    path = await fetch(cache_in(tmp_path), described(), file_server.url("/w"))

    assert path.read_bytes() == BODY
    assert file_server.requests == [("/w", "bytes=1234-")]


@pytest.mark.parametrize("mishap", ["norange", "shift", "416", "503"])
async def test_servers_that_do_not_resume_well_are_coped_with(
    file_server, tmp_path, mishap: str
) -> None:
    """The whole file again, a wrong offset, a refused range, a passing fault."""
    file_server.files["/w"] = BODY
    file_server.mishaps.append(mishap)
    partial_of(tmp_path, described()).write_bytes(BODY[:1234])

    path = await fetch(cache_in(tmp_path), described(), file_server.url("/w"))

    assert path.read_bytes() == BODY


@pytest.mark.parametrize("left", [b"garbage", BODY + b"too long", b"x" * len(BODY)])
async def test_a_spoilt_beginning_is_thrown_away(file_server, tmp_path, left: bytes) -> None:
    """Bytes that do not lead to the right digest are fetched again from the start."""
    file_server.files["/w"] = BODY
    partial_of(tmp_path, described()).write_bytes(left)

    path = await fetch(cache_in(tmp_path), described(), file_server.url("/w"))

    assert path.read_bytes() == BODY


async def test_a_corrupted_file_is_never_used(file_server, tmp_path) -> None:
    """One flipped bit: fetched again; flipped for ever: given up, with nothing left behind."""
    file_server.files["/w"] = BODY
    file_server.mishaps.append("flip")
    path = await fetch(cache_in(tmp_path / "once"), described(), file_server.url("/w"))
    assert path.read_bytes() == BODY

    file_server.mishaps += ["flip"] * downloads.WHOLE_ATTEMPTS
    with pytest.raises(DownloadError, match=r"weights\.bin.*digest"):
        await fetch(cache_in(tmp_path / "ever"), described(), file_server.url("/w"))
    assert list((tmp_path / "ever" / "files").iterdir()) == []


async def test_a_cached_file_that_rotted_is_fetched_again(file_server, tmp_path) -> None:
    """The digest is checked before every use, not only after the download."""
    file_server.files["/w"] = BODY
    path = await fetch(cache_in(tmp_path), described(), file_server.url("/w"))
    path.write_bytes(b"\0" * len(BODY))

    again = await fetch(cache_in(tmp_path), described(), file_server.url("/w"))

    assert again.read_bytes() == BODY


@pytest.mark.parametrize("status", ["404", "403", "410"])
async def test_a_refusal_is_final_and_says_so(file_server, tmp_path, status: str) -> None:
    """No use in asking again for what the server does not have."""
    file_server.files["/w"] = BODY
    file_server.mishaps.append(status)

    with pytest.raises(DownloadError, match=status):
        await fetch(cache_in(tmp_path), described(), file_server.url("/w"))
    assert len(file_server.requests) == 1


async def test_a_server_that_stays_down_is_given_up(tmp_path) -> None:
    """After five tries without a byte the model fails with a reason; nothing spins."""
    async with trio.open_nursery():
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        port = listener.socket.getsockname()[1]
        await listener.aclose()

    with pytest.raises(DownloadError, match="failed 5 times"):
        await fetch(cache_in(tmp_path), described(), f"http://127.0.0.1:{port}/w")


async def test_a_file_of_another_size_is_refused_before_its_bytes_arrive(
    file_server, tmp_path
) -> None:
    """The manifest's size is the limit, whatever the server offers."""
    file_server.files["/w"] = BODY + b"more"

    with pytest.raises(DownloadError, match="the manifest says 300000"):
        await fetch(cache_in(tmp_path), described(), file_server.url("/w"))


async def test_an_empty_file_needs_no_server(tmp_path) -> None:
    """Zero bytes are complete from the start."""
    path = await fetch(cache_in(tmp_path), described(b""), "http://127.0.0.1:1/w")

    assert path.read_bytes() == b""


async def test_the_least_recently_used_file_leaves_first(file_server, tmp_path) -> None:
    """The limit counts all files; what a rig uses right now is never evicted."""
    bodies = [bytes([n]) * 1000 for n in range(4)]
    files = [described(body, f"f{n}") for n, body in enumerate(bodies)]
    cache = cache_in(tmp_path, limit=3000)
    for n, body in enumerate(bodies):
        file_server.files[f"/{n}"] = body
    paths = []
    with FilesInUse() as in_use:
        for n in range(3):
            keep = in_use if n == 0 else FilesInUse()
            found = await cache.fetch((files[n],), {f"f{n}": file_server.url(f"/{n}")}, keep)
            if n:
                keep.close()
            paths.append(found[f"f{n}"])
            os.utime(paths[n], (n, n))  # the first is the oldest, and in use

        await fetch(cache, files[3], file_server.url("/3"))

        assert [path.exists() for path in paths] == [True, False, True]


async def test_a_file_that_cannot_fit_says_which_option_to_raise(file_server, tmp_path) -> None:
    """Larger than the cache, or than what the files in use leave."""
    file_server.files["/w"] = BODY
    with pytest.raises(DownloadError, match="raise --cache-limit"):
        await fetch(cache_in(tmp_path, limit=1000), described(), file_server.url("/w"))

    other = described(BODY[1:], "other")
    file_server.files["/o"] = BODY[1:]
    cache = cache_in(tmp_path, limit=len(BODY) + 1000)
    with FilesInUse() as in_use:
        await cache.fetch((other,), {"other": file_server.url("/o")}, in_use)
        with pytest.raises(DownloadError, match="files in use"):
            await fetch(cache, described(), file_server.url("/w"))


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63])
async def test_a_digest_that_is_none_never_becomes_a_path(tmp_path, digest: str) -> None:
    """A hostile manifest cannot make the rig write outside its cache."""
    file = File(name="x", size=1, sha256=digest)

    with pytest.raises(DownloadError, match="64 hex digits"):
        await fetch(cache_in(tmp_path), file, "http://127.0.0.1:1/x")


async def test_a_folder_that_cannot_be_written_says_which_option_to_use(tmp_path) -> None:
    """The text names the folder and the remedy."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(DownloadError, match="choose another with --cache"):
        await fetch(cache_in(tmp_path / "file"), described(), "http://127.0.0.1:1/w")


FETCH = """
import sys, trio
from pathlib import Path
from gpu_worker.downloads import FilesInUse, ModelCache
from stratum.manifest import File
folder, url, size, digest = sys.argv[1:]
file = File(name="w", size=int(size), sha256=digest)
cache = ModelCache(Path(folder), limit=10**9)
paths = trio.run(cache.fetch, (file,), {"w": url}, FilesInUse())
print(paths["w"])
"""


async def test_two_processes_share_one_cache(file_server, tmp_path) -> None:
    """Started together, one downloads and the other waits for it."""
    file_server.files["/w"] = BODY
    file = described()
    command = [
        sys.executable,
        "-c",
        FETCH,
        str(tmp_path),
        file_server.url("/w"),
        str(file.size),
        file.sha256,
    ]

    results = []

    async def run() -> None:
        results.append(await trio.run_process(command, capture_stdout=True, stderr=None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        nursery.start_soon(run)

    assert {result.stdout.decode().split()[-1] for result in results} == {
        str(tmp_path / "files" / file.sha256)
    }
    assert file_server.requests == [("/w", "")]
    assert (tmp_path / "files" / file.sha256).read_bytes() == BODY


HOLD = """
import sys, trio
from pathlib import Path
from gpu_worker.downloads import FilesInUse, ModelCache
from stratum.manifest import File
folder, size, digest = sys.argv[1:]
file = File(name="w", size=int(size), sha256=digest)
in_use = FilesInUse()
trio.run(ModelCache(Path(folder), limit=10**9).fetch, (file,), {}, in_use)
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_file_that_another_process_uses_is_not_evicted(file_server, tmp_path) -> None:
    """It is the oldest, and stays until that rig has ended."""
    old, new = described(BODY), described(BODY[1:], "new")
    file_server.files |= {"/old": BODY, "/new": BODY[1:]}
    cache = cache_in(tmp_path, limit=len(BODY) + 1000)
    path = await fetch(cache, old, file_server.url("/old"))
    holder = subprocess.Popen(  # noqa: ASYNC220 - started before the test begins to wait
        [sys.executable, "-c", HOLD, str(tmp_path), str(old.size), old.sha256],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DownloadError, match="files in use"):
            await fetch(cache, new, file_server.url("/new"))
        assert path.read_bytes() == BODY
        holder.kill()

    await fetch(cache, new, file_server.url("/new"))
    assert not path.exists()


async def test_two_rigs_that_fetch_at_once_keep_to_the_limit_together(
    file_server, tmp_path
) -> None:
    """What is still on its way to the other counts as if it were here."""
    slow, other = described(BODY), described(BODY[1:], "other")
    file_server.files |= {"/slow": BODY, "/other": BODY[1:]}
    file_server.mishaps.append("cut:1000")
    cache = ModelCache(tmp_path, limit=len(BODY) + 2000, retry_wait=1000.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, cache, slow, file_server.url("/slow"))
        with trio.fail_after(20):
            partial = trio.Path(partial_of(tmp_path, slow))
            while not (  # noqa: ASYNC110 - a client's file is waited for
                await partial.exists() and (await partial.stat()).st_size == 1000
            ):
                await trio.sleep(0.01)
        with pytest.raises(DownloadError, match="files in use"):
            await fetch(cache_in(tmp_path, len(BODY) + 2000), other, file_server.url("/other"))
        nursery.cancel_scope.cancel()

    # The first was given up: what it left is room for others.
    await fetch(cache_in(tmp_path, len(BODY) + 500), other, file_server.url("/other"))
    assert not await partial.exists()


async def test_a_rig_that_was_killed_leaves_no_lock(file_server, tmp_path) -> None:
    """The kernel frees the lock of a process that died while it held it."""
    file_server.files["/w"] = BODY
    file = described()
    (tmp_path / "locks").mkdir()
    hold = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'ab'); "
        "fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(  # noqa: ASYNC220 - started before the test begins to wait
        [sys.executable, "-c", hold, str(tmp_path / "locks" / file.sha256)],
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with trio.move_on_after(0.3):
            await fetch(cache_in(tmp_path), file, file_server.url("/w"))
        assert file_server.requests == []
        holder.kill()

    path = await fetch(cache_in(tmp_path), file, file_server.url("/w"))

    assert path.read_bytes() == BODY


def test_only_http_addresses_are_followed() -> None:
    """A pool cannot make the rig read local files."""
    assert http_url("https://cdn.example/f") == "https://cdn.example/f"
    for url in ("file:///etc/passwd", "ftp://x/y", "/f", ""):
        with pytest.raises(DownloadError, match="neither http nor https"):
            http_url(url)

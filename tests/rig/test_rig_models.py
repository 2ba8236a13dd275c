"""Staging: what is announced is fetched, loaded and reported; what fails is reported too."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import pytest
import trio
from scripted_pool import BLAKE2B_DIGEST, digests_of, rows_of

from gpu_worker.engine import Chunk, Engine, EngineError, load_engine
from stratum import messages as wire
from stratum.errors import code_of
from stratum.manifest import BLAKE2B, File, encode_manifest

WEIGHTS = b"weights" * 1000
WITH_FILE = msgspec.structs.replace(
    BLAKE2B,
    files=(
        File(name="weights.bin", size=len(WEIGHTS), sha256=sha256(WEIGHTS).hexdigest()),
        File(name="tokenizer.json", size=1, sha256="0" * 64, role="tokenizer"),
    ),
)


class Failing(Engine):
    """Computes as ``blake2b`` does, until it is told to fail."""

    width, dtype = 32, "|u1"

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.fail_at_call = False
        self.chunks: list[Chunk] | None = None
        self.closed = False
        self._real = load_engine(msgspec.to_builtins(BLAKE2B), {})

    def run(
        self, operation: str, lengths: Any, tokens: Any, rows_per_chunk: int
    ) -> Iterator[Chunk]:
        if self.failure is not None and self.fail_at_call:
            raise self.failure
        return self._run(operation, lengths, tokens, rows_per_chunk)

    def _run(self, *arguments: Any) -> Iterator[Chunk]:
        chunks = self._real.run(*arguments)
        yield next(chunks)
        if self.failure is not None:
            raise self.failure
        yield from chunks if self.chunks is None else self.chunks

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engine() -> Failing:
    return Failing()


@pytest.mark.parametrize("at_call", [True, False])
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (EngineError("row 3 is too long"), "compute_failed"),
        (ZeroDivisionError("a bug"), "compute_failed"),
        (MemoryError(), "out_of_memory"),
    ],
)
async def test_a_share_on_which_the_engine_fails_is_handed_back(
    pool, start_rig, engine, autojump_clock, failure: Exception, reason: str, at_call: bool
) -> None:
    """At the call or in the middle; the next share is computed as if nothing had been."""
    start_rig(engine_factory=lambda *_, **__: engine, part_rows=2)
    session = await pool.session()
    engine.failure, engine.fail_at_call = failure, at_call
    session.give(1, rows_of(6))
    await pool.until(lambda: session.of(wire.Release))
    engine.failure = None
    session.give(2, rows_of(6))
    await pool.until(lambda: len(pool.rows(2)) == 6)

    assert [(r.lease, r.reason) for r in session.of(wire.Release)] == [(1, reason)]
    assert pool.rows(2) == digests_of(rows_of(6))


async def test_a_model_that_fails_again_and_again_is_given_up(
    pool, start_rig, engine, autojump_clock
) -> None:
    """After three shares in a row the pool is told, so that it sends no more of them."""
    start_rig(engine_factory=lambda *_, **__: engine)
    session = await pool.session()
    engine.failure, engine.fail_at_call = EngineError("the device is lost"), True

    for lease in range(3):
        session.give(lease, rows_of(2))
    await pool.until(lambda: session.of(wire.ModelFailed))

    [failed] = session.of(wire.ModelFailed)
    assert failed.model == BLAKE2B_DIGEST
    assert "the device is lost" in failed.reason
    assert len(session.of(wire.Release)) == 3
    assert engine.closed


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([], "stopped after 2 of 6 rows"),
        ([Chunk(4, np.zeros((2, 32), np.uint8), ())], "row 4 where 2 was due"),
        ([Chunk(2, np.zeros((9, 32), np.uint8), ())], "9 rows"),
    ],
)
async def test_an_engine_that_skips_or_invents_rows_is_not_believed(
    pool, start_rig, engine, autojump_clock, chunks: list[Chunk], words: str, capsys
) -> None:
    """Too few rows, rows out of place, too many: the share is handed back."""
    engine.chunks = chunks
    start_rig(engine_factory=lambda *_, **__: engine, part_rows=2)
    session = await pool.session()

    session.give(1, rows_of(6))
    await pool.until(lambda: session.of(wire.Release))

    assert session.of(wire.Release)[0].reason == "compute_failed"
    assert words in capsys.readouterr().out


async def test_failed_rows_are_reported_as_such(pool, start_rig, engine, autojump_clock) -> None:
    """Positions are those in the part."""
    engine.chunks = [Chunk(2, np.zeros((2, 32), np.uint8), (1,))]
    start_rig(engine_factory=lambda *_, **__: engine, part_rows=2)
    session = await pool.session()
    pool.on_submit = lambda *_: "duplicate_part"

    session.give(1, rows_of(4))
    await pool.until(lambda: len(session.of(wire.Submit)) == 2)

    assert [p.outcome.failed for p in session.of(wire.Submit)] == [(), (1,)]


async def test_a_model_is_fetched_loaded_and_reported_ready(
    pool, start_rig, file_server, tmp_path
) -> None:
    """From the pool's own host when the address begins with a colon; engine files only."""
    file_server.files["/w"] = WEIGHTS
    loads = []

    def factory(manifest: dict[str, Any], files: Any, **options: Any) -> Engine:
        loads.append((manifest, {name: path.read_bytes() for name, path in files.items()}, options))
        return load_engine(manifest, {}, **options)

    pool.announced = False
    start_rig(
        engine_factory=factory,
        connector=lambda _: pool.connector(pool.address.__class__("127.0.0.1", 3333)),
        threads=2,
    )
    session = await pool.session()
    digest = session.announce(WITH_FILE, {"weights.bin": f":{file_server.port}/w"})
    with trio.fail_after(20):
        await pool.until(lambda: session.of(wire.ModelReady))

    assert session.of(wire.ModelReady)[0].model == digest
    [(manifest, files, options)] = loads
    assert manifest == msgspec.json.decode(encode_manifest(WITH_FILE))
    assert files == {"weights.bin": WEIGHTS}
    assert options == {"backend": "auto", "threads": 2}


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        ({"weights.bin": ":1/404"}, "download_failed"),
        ({}, "download_failed"),
        ({"weights.bin": "file:///etc/passwd"}, "download_failed"),
    ],
)
async def test_a_model_that_cannot_be_fetched_is_reported(
    pool, start_rig, file_server, urls: dict[str, str], reason: str
) -> None:
    """The pool learns why, and sends no shares of it; the session goes on."""
    urls = {name: url.replace(":1/", f":{file_server.port}/") for name, url in urls.items()}
    pool.announced = False
    start_rig(connector=lambda _: pool.connector(pool.address.__class__("127.0.0.1", 3333)))
    session = await pool.session()

    session.announce(WITH_FILE, urls)
    with trio.fail_after(20):
        await pool.until(lambda: session.of(wire.ModelFailed))

    assert session.of(wire.ModelFailed)[0].reason.startswith(f"{reason}: ")
    assert not session.over


@pytest.mark.parametrize(
    ("model", "text", "reason"),
    [
        ("f" * 64, encode_manifest(BLAKE2B), "bad_manifest"),
        ("", b"{}", "bad_manifest"),
        ("", b"not json", "bad_manifest"),
        (
            "",
            encode_manifest(msgspec.structs.replace(BLAKE2B, architecture="gpt9")),
            "unsupported",
        ),
    ],
)
async def test_a_manifest_that_cannot_be_used_is_reported(
    pool, start_rig, autojump_clock, model: str, text: bytes, reason: str
) -> None:
    """A false digest, nonsense, an architecture that no engine here computes."""
    pool.announced = False
    start_rig()
    session = await pool.session()

    session.tell(wire.Model(0, model or sha256(text).hexdigest(), text))
    await pool.until(lambda: session.of(wire.ModelFailed))

    assert session.of(wire.ModelFailed)[0].reason.startswith(f"{reason}: ")


async def test_a_model_is_loaded_once_for_all_sessions(pool, start_rig, autojump_clock) -> None:
    """After a reconnect the rig is ready at once."""
    loads = []

    def factory(*arguments: Any, **options: Any) -> Engine:
        loads.append(arguments)
        return load_engine(*arguments, **options)

    start_rig(engine_factory=factory)
    for number in range(3):
        await (await pool.session(number)).cut()
    await pool.session(3)

    assert len(loads) == 1


async def test_a_retired_model_is_freed_after_its_last_share(
    pool, start_rig, engine, steps, autojump_clock
) -> None:
    """The share in hand is finished first; a later share of it is handed back."""
    steps.seconds = 1.0
    start_rig(engine_factory=lambda *_, **__: engine, part_rows=1)
    session = await pool.session()
    session.give(1, rows_of(5))
    session.tell(wire.RetireModel(0, BLAKE2B_DIGEST))
    await pool.until(lambda: len(pool.rows(1)) == 5)
    await pool.until(lambda: engine.closed)

    session.give(2, rows_of(1))
    await pool.until(lambda: session.of(wire.Release))
    assert session.of(wire.Release)[0].reason == "unknown_model"


async def test_an_engine_is_not_closed_while_it_computes(
    pool, start_rig, engine, steps, autojump_clock
) -> None:
    """The share is cancelled and the model retired in the middle of a part."""
    steps.seconds = 10.0
    start_rig(engine_factory=lambda *_, **__: engine)
    session = await pool.session()
    session.give(1, rows_of(5))
    await trio.sleep(1)

    session.tell(wire.Cancel(0, 1, "cancelled"))
    session.tell(wire.RetireModel(0, BLAKE2B_DIGEST))
    await trio.sleep(5)

    assert not engine.closed
    await trio.sleep(5)
    assert engine.closed


class Wide(Failing):
    """Gives a mebibyte for each row."""

    def run(self, operation: str, lengths: Any, *rest: Any) -> Iterator[Chunk]:
        for row in range(len(lengths)):
            yield Chunk(row, np.zeros((1, 1 << 20), np.uint8), ())


async def test_a_slow_line_is_not_flooded(pool, start_rig, autojump_clock) -> None:
    """Four mebibytes are on their way at most; each answer lets the next part go."""
    start_rig(engine_factory=lambda *_, **__: Wide())
    session = await pool.session()
    pool.on_submit = lambda *_: "silence"
    session.give(1, rows_of(10))
    await trio.sleep(10)
    assert len(session.of(wire.Submit)) == 4

    for number in range(10):
        part = session.of(wire.Submit)[number]
        session.connection.refuse(part, code_of("duplicate_part"), "duplicate_part")
        await trio.sleep(1)
        assert len(session.of(wire.Submit)) == min(10, number + 5)

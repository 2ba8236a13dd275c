"""The demo from its first process to its last claim."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
import trio
from rich.console import Console

from pool.customer import EMBEDDINGS, Batch, Customer
from pool.demo.cheat import FALSIFIED
from pool.demo.claims import CHEAT, CUSTOMER, MINERS, Outcome
from pool.demo.corpus import Paragraph, read_corpus
from pool.demo.evidence import Books, read_books, read_standings
from pool.demo.house import MODEL, House, open_pool, set_up, start_rigs
from pool.demo.live import shown
from pool.demo.processes import ProcessError
from pool.demo.search import QUERIES, search
from pool.demo.watch import Scene, look
from pool.store import Database

_Answer = TypeVar("_Answer")

_LOOK_SECONDS = 0.5
_CONNECT_SECONDS = 300.0
_SETTLE_SECONDS = 30.0


@dataclass(slots=True)
class Demo:
    """One run: where it happens, what it shows, and how long each stage took."""

    house: House
    rows: int
    console: Console
    seconds: dict[str, float]

    async def run(self) -> Outcome:
        """Everything. Raises what goes wrong; ends no process itself."""
        with self._stage("setting up"):
            paragraphs = await self._set_up()
        with self._stage("connecting"):
            await open_pool(self.house)
            self._say(f"The pool listens on {self.house.stratum} and {self.house.http}.")
            start_rigs(self.house)
            async with Customer(self.house.http, self.house.tokens[CUSTOMER]) as customer:
                scene = Scene()
                await self._rigs_ready(customer, scene)
        async with Customer(self.house.http, self.house.tokens[CUSTOMER]) as customer:
            with self._stage("computing"):
                batch = await self._batch(customer, scene, paragraphs)
            answered, vectors, refused = await self._fetch(customer, batch)
            books = await self._settled_books(batch.id)
            with self._stage("searching"):
                queries = await customer.embed(MODEL, QUERIES)
        with self._stage("proving"):
            self._say("One honest process computes the same texts, all by itself.")
            expected = await self._honest([p.text for p in paragraphs])
        rows = len(paragraphs)
        return Outcome(
            places=[p.place for p in paragraphs],
            texts=[p.text for p in paragraphs],
            answered=answered,
            vectors=vectors,
            refused=refused,
            status=batch.status,
            expected=expected[:rows],
            queries=queries,
            expected_queries=expected[rows:],
            hits=_hits(paragraphs, vectors, queries),
            falsified=self._falsified(),
            books=books,
            now=time.time(),
            seconds=self.seconds,
        )

    @property
    def output(self) -> Path:
        """The file that the customer gets."""
        return self.house.folder / "vectors.jsonl"

    async def _set_up(self) -> list[Paragraph]:
        found: list[Paragraph] = []

        async def read() -> None:
            found.extend(await trio.to_thread.run_sync(read_corpus, self.rows))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(set_up, self.house)
        self._say(
            f"{len(found):,} paragraphs of the standard library's docstrings, {MODEL} with its"
            " real weights, and accounts for three miners and a customer are ready."
        )
        return found

    async def _rigs_ready(self, customer: Customer, scene: Scene) -> None:
        wanted = {f"{miner}.rig1" for miner in MINERS}
        give_up = trio.current_time() + _CONNECT_SECONDS
        while missing := wanted - scene.staged(MODEL):
            self.house.crew.check()
            if trio.current_time() > give_up:
                raise ProcessError(
                    f"{', '.join(sorted(missing))} did not get ready in {_CONNECT_SECONDS:.0f} s"
                )
            await trio.sleep(_LOOK_SECONDS / 2)
            await look(customer, scene)
        self._say(
            f"Three rigs are connected and have the model: {', '.join(sorted(wanted))}."
            f" {CHEAT} will falsify one row in five."
        )

    async def _batch(self, customer: Customer, scene: Scene, paragraphs: list[Paragraph]) -> Batch:
        request = self.house.folder / "texts.jsonl"
        request.write_bytes(b"".join(_line(paragraph) for paragraph in paragraphs))
        file = await customer.upload(request, request.name, lambda _: None)
        batch = await customer.create_batch(file, EMBEDDINGS)
        self._say(f"The customer handed in {request.name} as {batch.id}.")
        with shown(self.console, scene) as changed:
            while True:
                await look(customer, scene, batch.id)
                scene.standings = await trio.to_thread.run_sync(self._read, read_standings)
                changed()
                assert scene.batch is not None
                if scene.batch.over:
                    return scene.batch
                self.house.crew.check()
                await trio.sleep(_LOOK_SECONDS)

    async def _fetch(
        self, customer: Customer, batch: Batch
    ) -> tuple[list[str], dict[str, bytes], int]:
        """Names in the output's order, {name: vector}, and how many requests were refused."""
        names: list[str] = []
        vectors: dict[str, bytes] = {}
        if batch.output_file_id is not None:
            await customer.download(batch.output_file_id, self.output)
            for text in self.output.read_bytes().splitlines():
                answer = json.loads(text)
                names.append(answer["custom_id"])
                vectors[names[-1]] = _vector(answer)
        return names, vectors, batch.counts.failed

    async def _settled_books(self, batch: str) -> Books:
        """The books, once settlement has emptied the batch's escrows."""
        give_up = trio.current_time() + _SETTLE_SECONDS
        while True:
            books = await trio.to_thread.run_sync(self._books, batch)
            if books.settled or trio.current_time() > give_up:
                return books
            await trio.sleep(_LOOK_SECONDS)

    def _books(self, batch: str) -> Books:
        return self._read(lambda connection: read_books(connection, batch, CHEAT))

    def _read(self, question: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Ask the pool's database, beside the running pool."""
        database = Database(self.house.pool_folder / "inferpool.db")
        try:
            with database.read() as connection:
                return question(connection)
        finally:
            database.close()

    async def _honest(self, texts: list[str]) -> list[bytes]:
        """Vectors of the texts, then of the queries, by one process without a pool."""
        asked, told = self.house.folder / "honest.json", self.house.folder / "honest.bin"
        asked.write_text(json.dumps([*texts, *QUERIES]), encoding="utf-8")
        await self.house.crew.finish(
            "pool.demo.honest", str(self.house.pool_folder), MODEL, str(asked), str(told)
        )
        data = told.read_bytes()
        size = len(data) // (len(texts) + len(QUERIES))
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _falsified(self) -> int:
        told = [int(e["falsified"]) for e in self.house.crew.events(CHEAT, FALSIFIED)]
        return max(told, default=0)

    def _say(self, words: str) -> None:
        self.console.print(words, highlight=False, markup=False)

    def _stage(self, name: str) -> _Timed:
        return _Timed(lambda seconds: self.seconds.__setitem__(name, seconds))


class _Timed:
    """Measures a ``with`` block."""

    def __init__(self, done: Callable[[float], None]) -> None:
        self._done = done

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._done(time.monotonic() - self._start)


def _line(paragraph: Paragraph) -> bytes:
    request = {
        "custom_id": paragraph.place,
        "method": "POST",
        "url": EMBEDDINGS,
        "body": {"model": MODEL, "input": paragraph.text, "encoding_format": "base64"},
    }
    return json.dumps(request).encode() + b"\n"


def _vector(answer: dict[str, Any]) -> bytes:
    return base64.b64decode(answer["response"]["body"]["data"][0]["embedding"])


def _hits(
    paragraphs: list[Paragraph], vectors: dict[str, bytes], queries: list[bytes]
) -> list[list[Any]]:
    """The search's hits, over the rows that were answered."""
    known = [row for row, p in enumerate(paragraphs) if p.place in vectors]
    if not known:
        return [[] for _ in queries]
    rows = np.frombuffer(b"".join(vectors[paragraphs[row].place] for row in known), dtype="<f4")
    asked = np.frombuffer(b"".join(queries), dtype="<f4").reshape(len(queries), -1)
    found = search(asked, rows.reshape(len(known), -1))
    return [[hit.at(known[hit.row]) for hit in line] for line in found]

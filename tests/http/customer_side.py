"""A pool's customer side on a real port: real store, workers and server, with a core that
computes every row itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path

import httpx
import msgspec
import numpy as np
import trio
from prometheus_client import CollectorRegistry
from sqlalchemy import func, insert, select
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from pool.batches.ports import Progress
from pool.batches.runner import BatchRunner
from pool.batches.workers import open_workers
from pool.clock import Clock
from pool.config import BatchesConfig, Config, HttpConfig
from pool.http import HttpDeps, create_app
from pool.http.server import HttpServer
from pool.models import Models, object_of
from pool.store import Group, Store, commit_group, schema
from pool.store.accounts import create_account
from pool.store.blockfile import BlockFile
from pool.store.escrow import deposit
from pool.store.jobs import unfinished_jobs
from shares.blocks import Kind, Segment
from shares.board.effects import (
    BlockCleared,
    JobClosed,
    LeaseIssued,
    PartAccepted,
    Record,
    ShareJudged,
    Won,
)
from shares.results import part_digest, row_digests
from stratum.manifest import File, Manifest, encode_manifest, manifest_digest

WIDTH = 8
UNLUCKY = 13  # a row that begins with this token has a result that is not finite

CONFIG = Config(
    batches=BatchesConfig(max_lines=2000, max_line_bytes=1 << 20),
    http=HttpConfig(max_upload_bytes=4 << 20, direct_timeout_seconds=5.0),
)


def embedding(tokens: np.ndarray, width: int = WIDTH) -> np.ndarray:
    """What the tests' models make of a row: float32 [width], width at most WIDTH."""
    digest = blake2b(tokens.astype("<u4").tobytes(), digest_size=4 * WIDTH).digest()
    return (np.frombuffer(digest, dtype="<i4") / np.float64(1 << 31)).astype("<f4")[:width]


@dataclass
class FakeCore:
    """Computes and clears every row of a job as soon as it may."""

    store: Store
    clock: Clock
    nursery: trio.Nursery
    runner: BatchRunner | None = None
    go: trio.Event = field(default_factory=trio.Event)  # jobs are computed once this is set
    opened: trio.Event = field(default_factory=trio.Event)
    jobs: dict[int, Progress] = field(default_factory=dict)
    leases: int = 0
    _lock: trio.Lock = field(default_factory=trio.Lock)

    async def open_job(self, job: int) -> None:
        event = await trio.to_thread.run_sync(self.store.job_opened, job, self.clock.now())
        self.jobs[job] = Progress(event.rows, 0, 0, 0.0, None)
        self.opened.set()
        self.nursery.start_soon(self._work, job)

    async def recover(self) -> None:
        """Take up the jobs that a stop interrupted, as the board does after a restart."""
        with self.store.database.read() as connection:
            self.leases = connection.scalar(select(func.max(schema.lease.c.id))) or 0
            open_jobs = [
                row.id
                for row in unfinished_jobs(connection)
                if row.state in ("in_progress", "cancelling") and row.closed is None and row.blocks
            ]
        for job in open_jobs:
            await self.open_job(job)

    def cancel_job(self, job: int, reason: str) -> None:
        if job in self.jobs:
            self.nursery.start_soon(self._close, job, reason)

    def progress(self, job: int) -> Progress | None:
        return self.jobs.get(job)

    async def half(self, job: int) -> None:
        """Compute and clear the job's first block only."""
        records = await self._work_on(job, [0])
        rows = sum(r.rows for r in records if isinstance(r, PartAccepted))
        whole = self.jobs[job]
        self.jobs[job] = Progress(whole.rows, rows, rows, 100.0, 1.5)

    async def _work(self, job: int) -> None:
        await self.go.wait()
        if job not in self.jobs:
            return
        event = await trio.to_thread.run_sync(self.store.job_opened, job, self.clock.now())
        blocks = list(range(event.blocks))
        await self._work_on(job, blocks)
        await self._close(job, "completed")

    async def _close(self, job: int, state: str) -> None:
        if self.jobs.pop(job, None) is None:
            return
        await self._commit(JobClosed(job, state, self.clock.now()))
        assert self.runner is not None
        self.runner.job_closed(job, state)

    async def _work_on(self, job: int, blocks: list[int]) -> list[Record]:
        async with self._lock:
            records, payloads = await trio.to_thread.run_sync(self._compute, job, blocks)
            await trio.to_thread.run_sync(commit_group, self.store, Group(records, payloads))
        return records

    async def _commit(self, record: Record) -> None:
        async with self._lock:
            await trio.to_thread.run_sync(commit_group, self.store, Group([record], {}))

    def _compute(self, job: int, blocks: list[int]) -> tuple[list[Record], dict[int, bytes]]:
        at = self.clock.now()
        opened = self.store.job_opened(job, at)
        records: list[Record] = []
        payloads: dict[int, bytes] = {}
        for number in blocks:
            self.leases += 1
            with BlockFile(self.store.block_path(job, number)) as block:
                rows, failed = [], []
                for row in range(block.rows):
                    _, tokens = block.take(row, row + 1)
                    if opened.operation == "digest":
                        data = blake2b(tokens.astype("<u4").tobytes(), digest_size=32).digest()
                        rows.append(data)
                    elif tokens[0] == UNLUCKY:
                        failed.append(row)
                        rows.append(bytes(opened.row_bytes))
                    else:
                        rows.append(embedding(tokens, opened.row_bytes // 4).tobytes())
                values = b"".join(rows)
                digests = row_digests(memoryview(values), opened.row_bytes, failed)
                records += self._records(opened, number, block.rows, block.work, digests, at)
            payloads[self.leases] = values + np.array(failed, dtype="<u4").tobytes()
        return records, payloads

    def _records(self, opened, number, rows, work, digests, at) -> list[Record]:
        segment = Segment(opened.job, number, 0, rows, Kind.ROW)
        return [
            LeaseIssued(
                lease=self.leases,
                account="miner",
                rig="rig",
                model=opened.model,
                operation=opened.operation,
                segments=(segment,),
                rows=rows,
                work=work,
                difficulty=1,
                issued=at,
                deadline=at + 60,
            ),
            PartAccepted(
                lease=self.leases,
                part=0,
                first_row=0,
                rows=rows,
                payload=self.leases,
                digests=digests,
                digest=part_digest(digests),
                epoch=1,
                check_rate_ppm=0,
                referee_rate_ppm=0,
                row_work=1_000,
                why="held",
                held=200,
                price=1,
                works=((1, rows),),
                over=(),
                check_rows=(),
                referee_rows=(),
                policy=3,
                won=(Won(opened.job, number, 0, rows, 0),),
                at=at,
            ),
            ShareJudged(self.leases, "cleared", "window", False, at),
            BlockCleared(opened.job, number),
        ]


@dataclass
class Served:
    """A running customer side."""

    store: Store
    core: FakeCore
    runner: BatchRunner
    models: Models
    clock: Clock
    port: int
    key: str
    poor_key: str
    miner_key: str
    told: list[tuple[str, str]] = field(default_factory=list)  # (account, text)
    facts: dict = field(default_factory=dict)  # what the pool tells of itself
    changes: list[None] = field(default_factory=list)  # one for each that the pages told
    stop: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def tiny_tokenizer() -> str:
    """Words from a short list, between [CLS] and [SEP], as tokenizer.json; it cuts and pads."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(4, 40))]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    return tokenizer.to_str()


def register_model(store: Store, name: str, **changes: object) -> None:
    """Register a model of 16 tokens and 40 words that computes nothing real."""
    data = tiny_tokenizer().encode()
    weights = b"not really weights" * 100
    files = (
        File(
            name="tokenizer.json", size=len(data), sha256=sha256(data).hexdigest(), role="tokenizer"
        ),
        File(name="weights", size=len(weights), sha256=sha256(weights).hexdigest()),
    )
    for file, content in zip(files, (data, weights), strict=True):
        if not store.objects.exists(object_of(file)):
            store.objects.put(object_of(file), content)
    manifest = Manifest(
        architecture="bert",
        operations=("embed",),
        numerics="exact16",
        width=WIDTH,
        dtype="<f4",
        max_tokens=16,
        vocabulary=40,
        macs_per_token=3_000_000,
        macs_per_pair=0,
        files=files,
    )
    text = encode_manifest(msgspec.structs.replace(manifest, **changes))
    with store.database.write() as connection:
        connection.execute(
            insert(schema.model).values(
                name=name, digest=manifest_digest(text), manifest=text, added=1700000000.0
            )
        )


def register_models(store: Store) -> None:
    """``tiny`` embeds, ``ask`` embeds with prompts, ``ranker`` scores pairs, ``mood`` classifies.

    ``plain`` classifies without labels, each class by itself.
    """
    register_model(store, "tiny")
    prompts = {"query": "w30 ", "passage": "w31 w32 "}
    register_model(store, "ask", prompts=prompts, default_prompt="passage")
    register_model(store, "ranker", operations=("score",), width=1)
    register_model(
        store,
        "mood",
        operations=("classify",),
        width=3,
        labels=("sad", "calm", "glad"),
        config={"probability": "softmax"},
    )
    register_model(
        store, "plain", operations=("classify",), width=2, config={"probability": "sigmoid"}
    )


class ThreadWorkers:
    """Runs what worker processes run in threads: starting processes takes most of a test."""

    async def run(self, function, argument, *, lane: str):
        return await trio.to_thread.run_sync(function, argument, abandon_on_cancel=True)


@asynccontextmanager
async def open_thread_workers(batches: int) -> AsyncIterator[ThreadWorkers]:
    """In place of ``pool.batches.workers.open_workers``."""
    yield ThreadWorkers()


@asynccontextmanager
async def open_customer_side(
    folder: Path, config: Config = CONFIG, *, processes: bool = False, go: bool = True
) -> AsyncIterator[Served]:
    """Serve the pool in ``folder`` on a free port; made when it is not there, else taken up.

    ``processes``: real worker processes. ``go``: jobs are computed at once.
    """
    store = Store.open(folder, durable=False)
    store.claim()
    clock = Clock()
    keys = _keys(store, clock)
    models = Models(store)
    try:
        async with trio.open_nursery() as nursery:
            core = FakeCore(store, clock, nursery)
            runner = BatchRunner(
                store,
                core,
                models,
                config,
                clock,
                workers=open_workers if processes else open_thread_workers,
            )
            core.runner = runner
            if go:
                core.go.set()
            told: list[tuple[str, str]] = []
            server = HttpServer("127.0.0.1", 0)
            facts, changes = pool_facts(models), []

            async def overview() -> dict:
                return facts | {"open": len(core.jobs)}

            deps = HttpDeps(
                store=store,
                core=core,
                models=models,
                runner=runner,
                config=config,
                clock=clock,
                registry=CollectorRegistry(),
                ending=server.stopping,
                alerts_secret="alert-secret",
                overview=overview,
                changed=lambda: changes.append(None),
                tell=lambda account, text: told.append((account, text)),
            )
            await core.recover()
            nursery.start_soon(runner.run)
            await nursery.start(server.serve, create_app(deps))
            yield Served(
                store,
                core,
                runner,
                models,
                clock,
                server.port,
                *keys,
                told=told,
                facts=facts,
                changes=changes,
                stop=server.stop,
            )
            server.stop()
            nursery.cancel_scope.cancel()
    finally:
        store.close()


def pool_facts(models: Models) -> dict:
    """What ``pool.overview`` tells of a pool with one rig of ``miner`` and one of somebody else."""
    rig = {
        "models": ["tiny"],
        "difficulty": 1000,
        "rate": 120.0,
        "leases": 2,
        "in_hand": 2000,
        "unjudged": 1,
        "established": True,
        "held": 500,
        "accepted_rows": 1234,
        "accepted_work": 5678,
        "shares_cleared": 9,
        "shares_rejected": 1,
        "offences": 0,
        "check_rate_ppm": 10_000,
        "referee_rate_ppm": 1_000,
    }
    return {
        "rigs": [
            {"account": "miner", "rig": "rig1"} | rig,
            {"account": "stranger", "rig": "basement"} | rig,
        ],
        "jobs": [
            {
                "model": "tiny",
                "operation": "embed",
                "direct": False,
                "rows": 100,
                "accepted_rows": 60,
                "cleared_rows": 50,
                "work": 100,
                "rate": 10.0,
                "eta_seconds": 5.0,
            }
        ],
        "models": [
            {
                "name": model.name,
                "model": model.digest,
                "numerics": model.manifest.numerics,
                "operations": list(model.manifest.operations),
                "labels": [],
                "prompts": {},
                "default_prompt": None,
            }
            for model in models.list()
        ],
        "connections": 3,
        "rate": 240.0,
        "leases": 4,
        "open_work": 1000,
        "leased_work": 4000,
        "unjudged": 2,
        "checks": 7,
        "referee_waiting_rows": 0,
        "referee_rows": 11,
        "referee_rigs": 0,
        "reserve": 100,
        "leasing_paused": False,
        "batches": {"completed": 3},
    }


def _keys(store: Store, clock: Clock) -> list[str]:
    """Tokens of a rich customer, a poor one and a miner, kept beside the pool."""
    file = store.folder / "test-keys"
    if not file.exists():
        roles = (("rich", "customer"), ("poor", "customer"), ("miner", "miner"))
        keys = [create_account(store.database, *who, clock.now()) for who in roles]
        deposit(store.database, "rich", 1_000_000, clock.now())
        register_models(store)
        file.write_text("\n".join(keys))
    return file.read_text().split()


def jsonl(lines: list[dict]) -> bytes:
    """Lines as a file."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def embed_line(number: int, given: object, **more: object) -> dict:
    """A line of an embeddings batch."""
    return {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "tiny", "input": given, **more},
    }


def digest_line(number: int, given: object) -> dict:
    """A line of a digests batch."""
    return {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/digests",
        "body": {"model": "blake2b", "input": given},
    }


def client_of(side: Served, key: str = "") -> httpx.AsyncClient:
    """A plain HTTP client with a customer's key."""
    headers = {"authorization": f"Bearer {key or side.key}"}
    return httpx.AsyncClient(base_url=side.url, headers=headers, timeout=30)


async def upload(client: httpx.AsyncClient, data: bytes) -> str:
    """Upload an input file; its id."""
    answer = await client.post("/v1/files", files={"file": data}, data={"purpose": "batch"})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def make_batch(
    client: httpx.AsyncClient, data: bytes, endpoint: str = "/v1/embeddings", window: str = "24h"
) -> str:
    """Upload and make a batch; its id."""
    body = {"input_file_id": await upload(client, data), "endpoint": endpoint}
    answer = await client.post("/v1/batches", json=body | {"completion_window": window})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def until_over(client: httpx.AsyncClient, batch: str) -> dict:
    """Ask until the batch is over."""
    with trio.fail_after(60):
        while True:
            found = (await client.get(f"/v1/batches/{batch}")).json()
            if found["status"] in ("completed", "failed", "expired", "cancelled"):
                return found
            await trio.sleep(0.01)


async def content(client: httpx.AsyncClient, file: str) -> bytes:
    """A file's bytes."""
    answer = await client.get(f"/v1/files/{file}/content")
    assert answer.status_code == 200
    return answer.content

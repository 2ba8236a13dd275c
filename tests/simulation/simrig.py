"""A real rig on simulated hardware: it takes its time by the virtual clock, and may lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import trio
from simwire import WireEnd

from gpu_worker.config import PoolAddress, RigConfig
from gpu_worker.downloads import FilesInUse
from gpu_worker.engine import Chunk, Engine, load_engine
from gpu_worker.rig import Rig
from stratum.client import RigConnection
from stratum.manifest import BLAKE2B, File

if TYPE_CHECKING:
    from world import World

POOL = PoolAddress("pool.simulation", 3333)


@dataclass(slots=True)
class SimRig:
    """One machine: ``start`` boots it, ``crash`` switches it off, ``unplug`` cuts its line.

    ``speed``: rows a second. ``jitter``: how much a row's time varies. ``falsehood``: the part of
    its rows that are wrong. ``kind``: what it calls its device, instead of this processor.
    ``spoil``: what becomes of its engine.
    """

    world: World
    account: str
    name: str
    speed: float
    token: str
    random: Random
    jitter: float = 0.1
    falsehood: float = 0.0
    latency: float = 0.02
    part_seconds: float = 4.0
    kind: str = ""
    spoil: Callable[[Engine], Engine] = lambda engine: engine
    rig: Rig | None = None
    lines: list[WireEnd] = field(default_factory=list)  # our ends of open lines
    sessions: int = 0
    rows: int = 0  # computed since the first boot
    _scope: trio.CancelScope | None = None
    _off: trio.Event = field(default_factory=trio.Event)

    @property
    def user(self) -> str:
        return f"{self.account}.{self.name}"

    @property
    def running(self) -> bool:
        return self._scope is not None

    def start(self) -> None:
        """Switch it on."""
        assert self._scope is None, f"{self.user} runs already"
        self._scope, self._off = trio.CancelScope(), trio.Event()
        self.world.nursery.start_soon(self._run, self._scope, name=self.user)

    def crash(self) -> None:
        """Switch it off: it loses its shares and what it computed."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None
        self.unplug()

    async def leave(self) -> None:
        """Ask it to leave, as SIGTERM does, and wait until it has."""
        assert self.rig is not None
        self.rig.stop()
        await self._off.wait()

    def twin(self) -> SimRig:
        """Another machine with the same name and token."""
        return replace(
            self, random=Random(f"{self.user} {self.sessions}"), rig=None, lines=[], _scope=None
        )

    def unplug(self) -> None:
        """Cut its lines; it will dial again."""
        for line in self.lines:
            line.cut()
        self.lines.clear()

    async def _run(self, scope: trio.CancelScope) -> None:
        config = RigConfig(
            pools=(POOL,),
            user=self.user,
            token=self.token,
            cache=self.world.folder / "no-cache",
            threads=1,
            part_seconds=self.part_seconds,
            first_backoff=0.5,
            longest_backoff=10.0,
            good_session=5.0,
        )
        with scope:
            self.rig = Rig(
                config,
                engine_factory=self._load,
                connector=self._dial,
                offload=self._offload,
                random=self.random,
            )
            self.rig._models._cache = _Shelf(self.world)  # type: ignore[assignment]
            if self.kind:
                self._rename(self.rig)
            await self.rig.run()
        if self._scope is scope:
            self._scope = None
            self._off.set()

    def _rename(self, rig: Rig) -> None:
        devices = rig._device_list
        rig._device_list = lambda: tuple(  # type: ignore[method-assign]
            msgspec.structs.replace(device, kind=self.kind) for device in devices()
        )

    async def _dial(self, address: PoolAddress) -> RigConnection:
        await trio.sleep(self.latency)
        line = self.world.dial(self)  # raises ConnectionRefusedError
        self.lines.append(line)
        self.sessions += 1
        return RigConnection(line, host=address.host)

    async def _offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Compute in the loop, and let the time pass that this machine takes for it."""
        result = function(*arguments)
        if isinstance(result, Chunk):
            rows = len(result.values)
            slowness = 1 + self.jitter * (2 * self.random.random() - 1)
            await trio.sleep(rows / self.speed * slowness)
            self.rows += rows
        else:
            await trio.lowlevel.checkpoint()
        return result

    def _load(
        self,
        manifest: dict[str, Any],
        files: Mapping[str, Path],
        *,
        backend: str,
        threads: int | None,
    ) -> Engine:
        engine = load_engine(manifest, files, backend="numpy", threads=threads)
        return _Liar(engine, self) if self.falsehood else self.spoil(engine)


class _Shelf:
    """A model cache that has whatever the pool offers: nothing is fetched in a simulation."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def fetch(
        self, files: tuple[File, ...], _urls: Mapping[str, str], _in_use: FilesInUse
    ) -> dict[str, Path]:
        await trio.lowlevel.checkpoint()
        assert self._world.pool is not None
        models = self._world.pool.models
        return {file.name: models.path(file) for file in files}


class _Liar(Engine):
    """Makes up some rows: the digest of something else."""

    width = BLAKE2B.width
    dtype = BLAKE2B.dtype

    def __init__(self, honest: Engine, rig: SimRig) -> None:
        self._honest = honest
        self._rig = rig

    def run(
        self, operation: str, lengths: Any, tokens: Any, rows_per_chunk: int
    ) -> Iterator[Chunk]:
        return self._falsified(self._honest.run(operation, lengths, tokens, rows_per_chunk))

    def _falsified(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        random = self._rig.random
        for chunk in chunks:
            for row in range(len(chunk.values)):
                if random.random() < self._rig.falsehood:
                    chunk.values[row] = np.frombuffer(random.randbytes(32), np.uint8)
            yield chunk

    def close(self) -> None:
        self._honest.close()

"""The models that a rig has staged: fetched, verified, loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
import trio

from gpu_worker.config import RigConfig
from gpu_worker.downloads import DownloadError, FilesInUse, ModelCache, http_url
from gpu_worker.engine import Engine, EngineError
from gpu_worker.telemetry import Telemetry
from stratum.manifest import decode_manifest, manifest_digest
from stratum.messages import Model

log = structlog.get_logger()


class EngineFactory(Protocol):
    """Loads an engine, as ``gpu_worker.engine.load_engine`` does. Raises ``EngineError``."""

    def __call__(
        self,
        manifest: dict[str, Any],
        files: Mapping[str, Path],
        *,
        backend: str,
        threads: int | None,
    ) -> Engine:
        """Return an engine for the manifest, from files that were verified."""


Offload = Callable[..., Awaitable[Any]]
"""``await offload(function, *args)`` runs a function that may take long, off the event loop."""


class StagedModel:
    """One model on its way into memory: it ends with an ``engine`` or a ``failure``."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.engine: Engine | None = None
        self.row_bytes = 1
        self.failure: tuple[str, str] | None = None
        """Why it cannot be computed here: a reason code and words."""
        self.failures_in_a_row = 0
        """Shares of it on which the engine failed, since the last that it finished."""
        self.urls: dict[str, str] = {}  # {file name: url}, replaced when the pool sends new ones
        self.in_use = FilesInUse()
        self.busy = False
        """While it computes, its engine must not be closed."""
        self.retired = False


class Models:
    """Stages the models that pools announce, and keeps their engines.

    A model that two pools (or two sessions) announce is staged once. Staging goes on while the
    connection to the pool is down; ``changed`` is called when one is loaded or has failed.
    """

    def __init__(
        self,
        config: RigConfig,
        cache: ModelCache,
        factory: EngineFactory,
        offload: Offload,
        telemetry: Telemetry,
        changed: Callable[[], None],
    ) -> None:
        self._config = config
        self._cache = cache
        self._factory = factory
        self._offload = offload
        self._telemetry = telemetry
        self._changed = changed
        self._models: dict[str, StagedModel] = {}  # {digest: model}, failed ones excluded
        self._one_at_a_time = trio.Lock()  # loading two models at once doubles the peak of memory

    def __getitem__(self, digest: str) -> StagedModel | None:
        """The model when it is loaded, else None."""
        model = self._models.get(digest)
        return model if model is not None and model.engine is not None else None

    def stage(
        self, message: Model, resolve: Callable[[str], str], nursery: trio.Nursery
    ) -> StagedModel:
        """Begin (or join) the staging of a model, in ``nursery``.

        ``resolve`` completes the addresses of files (``RigConnection.file_url``).
        """
        model = self._models.get(message.model)
        try:
            urls = {file.name: http_url(resolve(file.url)) for file in message.files}
        except DownloadError as error:
            if model is None:
                model = StagedModel(message.model)
                self.fail(model, "download_failed", str(error))
            return model
        if model is None:
            model = self._models[message.model] = StagedModel(message.model)
            nursery.start_soon(self._stage, model, bytes(message.manifest))
        model.urls.update(urls)
        return model

    def retire(self, digest: str) -> None:
        """Free a model; a share of it that is being computed keeps the engine until its end."""
        model = self._models.get(digest)
        if model is not None:
            self._forget(model)
            log.info("model retired", model=digest[:12])

    def close(self) -> None:
        """Free everything that is not computing; nothing can be staged afterwards."""
        for model in list(self._models.values()):
            self._forget(model)

    def fail(self, model: StagedModel, reason: str, words: str) -> None:
        """Give a model up; the pool may announce it again."""
        model.failure = (reason, words)
        self._forget(model)
        log.error("model cannot be computed here", model=model.digest[:12], reason=words)

    def set_busy(self, model: StagedModel, busy: bool) -> None:
        """A share of the model begins or ends; a retired model is freed with the last."""
        model.busy = busy
        self._free_if_over(model)

    def _forget(self, model: StagedModel) -> None:
        if self._models.get(model.digest) is model:
            del self._models[model.digest]
        model.retired = True
        self._free_if_over(model)

    @staticmethod
    def _free_if_over(model: StagedModel) -> None:
        if model.retired and not model.busy:
            model.in_use.close()
            if model.engine is not None:
                model.engine.close()
                model.engine = None

    async def _stage(self, model: StagedModel, text: bytes) -> None:
        """Fetch, verify and load; ends with ``settled`` set, whatever happens."""
        short = model.digest[:12]
        try:
            if manifest_digest(text) != model.digest:
                self.fail(model, "bad_manifest", "the manifest's SHA-256 is not the model's digest")
                return
            manifest = decode_manifest(text)
            files = tuple(file for file in manifest.files if file.role == "engine")
            started = trio.current_time()
            paths = await self._cache.fetch(files, model.urls, model.in_use)
            fetched = trio.current_time()
            self._telemetry.busy_seconds["download"] += fetched - started
            async with self._one_at_a_time:
                engine = await self._offload(self._load, msgspec.json.decode(text), paths)
            self._telemetry.busy_seconds["load"] += trio.current_time() - fetched
            model.row_bytes = manifest.row_bytes
            model.engine = engine
            log.info("model loaded", model=short, architecture=manifest.architecture)
        except msgspec.DecodeError as error:
            self.fail(model, "bad_manifest", str(error))
        except DownloadError as error:
            self.fail(model, "download_failed", str(error))
        except EngineError as error:
            self.fail(model, "unsupported", str(error))
        except MemoryError:
            self.fail(model, "out_of_memory", "loading it needs more memory than is free")
        except Exception as error:
            # A model that cannot be loaded must not end a rig that computes others.
            log.exception("staging failed", model=short)
            self.fail(model, "compute_failed", f"{type(error).__name__}: {error}")
        finally:
            self._free_if_over(model)  # it may have been retired meanwhile
            self._changed()

    def _load(self, manifest: dict[str, Any], paths: dict[str, Path]) -> Engine:
        return self._factory(
            manifest, paths, backend=self._config.backend, threads=self._config.threads
        )

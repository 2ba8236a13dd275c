"""The models that a rig has staged: fetched, verified, loaded on its devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from gpu_worker.devices.base import Device
from gpu_worker.devices.seats import Seat
from gpu_worker.downloads import DownloadError, FilesInUse, ModelCache, http_url
from gpu_worker.engine import DeviceLost, EngineError, OutOfMemory
from gpu_worker.telemetry import Telemetry
from stratum.manifest import decode_manifest, manifest_digest
from stratum.messages import Model

log = structlog.get_logger()


class StagedModel:
    """One model on its way into memory: it ends up ``ready``, or with a ``failure``."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.ready = False
        """Whether one device at least has loaded it, once; a restart does not change it."""
        self.row_bytes = 1
        self.failure: tuple[str, str] | None = None
        """Why it cannot be computed here: a reason code and words."""
        self.urls: dict[str, str] = {}  # {file name: url}, replaced when the pool sends new ones
        self.in_use = FilesInUse()
        self.manifest: dict[str, Any] | None = None
        """The parsed manifest, once the files are here."""
        self.paths: dict[str, Path] = {}
        self.retired = False


class Models:
    """Stages the models that pools announce, on every device.

    A model that two pools (or two sessions) announce is staged once. Staging goes on while the
    connection to the pool is down; ``changed`` is called when one is loaded or has failed.
    """

    def __init__(
        self,
        cache: ModelCache,
        seats: Sequence[Seat],
        telemetry: Telemetry,
        changed: Callable[[], None],
    ) -> None:
        self._cache = cache
        self._seats = seats
        self._telemetry = telemetry
        self._changed = changed
        self._models: dict[str, StagedModel] = {}  # {digest: model}, failed ones excluded

    def __getitem__(self, digest: str) -> StagedModel | None:
        """The model when a device has loaded it, else None."""
        model = self._models.get(digest)
        return model if model is not None and model.ready else None

    def stage(
        self, message: Model, resolve: Callable[[str], str], nursery: trio.Nursery
    ) -> StagedModel:
        """Begin (or join) the staging of a model, in ``nursery``.

        ``resolve`` completes the addresses of files (``RigConnection.whole_url``).
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

    async def load_all_on(self, seat: Seat) -> None:
        """Load every model that is here on a device that has none."""
        for model in list(self._models.values()):
            if model.manifest is not None:
                await self._load_on(seat, model)
                self._settle(model)

    def refuse(self, seat: Seat, digest: str, reason: str, words: str) -> None:
        """Compute a model on this device no more; without any device it is given up."""
        engine = seat.engines.pop(digest, None)
        if engine is not None and seat.device is not None:
            seat.device.unload(engine)
        seat.refused[digest] = (reason, words)
        model = self._models.get(digest)
        if model is not None:
            self._settle(model)

    def retire(self, digest: str) -> None:
        """Free a model; rows of it that are being computed keep the engine until their end."""
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

    def _forget(self, model: StagedModel) -> None:
        model.retired = True
        model.in_use.close()
        if self._models.get(model.digest) is not model:
            return
        del self._models[model.digest]
        for seat in self._seats:
            seat.refused.pop(model.digest, None)
            seat.failures.pop(model.digest, None)
            engine = seat.engines.pop(model.digest, None)
            if engine is not None and seat.device is not None:
                seat.device.unload(engine)

    async def _stage(self, model: StagedModel, text: bytes) -> None:
        """Fetch, verify, and load on every device; ends ready or failed, whatever happens."""
        short = model.digest[:12]
        try:
            if manifest_digest(text) != model.digest:
                self.fail(model, "bad_manifest", "the manifest's SHA-256 is not the model's digest")
                return
            manifest = decode_manifest(text)
            files = tuple(file for file in manifest.files if file.role == "engine")
            started = trio.current_time()
            model.paths = await self._cache.fetch(files, model.urls, model.in_use)
            fetched = trio.current_time()
            self._telemetry.busy_seconds["download"] += fetched - started
            model.row_bytes = manifest.row_bytes
            model.manifest = msgspec.json.decode(text)
            async with trio.open_nursery() as nursery:
                for seat in self._seats:
                    if seat.device is not None:
                        nursery.start_soon(self._load_on, seat, model)
            self._telemetry.busy_seconds["load"] += trio.current_time() - fetched
            self._settle(model)
        except msgspec.DecodeError as error:
            self.fail(model, "bad_manifest", str(error))
        except DownloadError as error:
            self.fail(model, "download_failed", str(error))
        except Exception as error:
            # A model that cannot be staged must not end a rig that computes others.
            log.exception("staging failed", model=short)
            self.fail(model, "compute_failed", f"{type(error).__name__}: {error}")
        finally:
            if model.retired:
                model.in_use.close()  # it was retired while its files came
            self._changed()

    async def _load_on(self, seat: Seat, model: StagedModel) -> None:
        """Load a model on one device, or note why it cannot be; one at a time for each device."""
        # Loading two models at once would double the peak of memory.
        async with seat.loading:
            device = seat.device
            digest = model.digest
            if device is None or model.retired or digest in seat.engines or digest in seat.refused:
                return
            refusal = await self._try_to_load(seat, device, model)
            if seat.device is not device:
                return
            if refusal is not None:
                seat.refused[digest] = refusal
                log.error("model not loaded", device=seat.spec.name, reason=refusal[1])

    async def _try_to_load(
        self, seat: Seat, device: Device, model: StagedModel
    ) -> tuple[str, str] | None:
        """Returns a reason code and words when the device cannot compute the model."""
        assert model.manifest is not None
        try:
            engine = await device.load(model.manifest, model.paths)
        except DeviceLost:
            return None  # its successor loads the model again
        except OutOfMemory as error:
            return "out_of_memory", str(error)
        except EngineError as error:
            return "unsupported", str(error)
        except MemoryError:
            return "out_of_memory", "loading it needs more memory than is free"
        except Exception as error:
            # An engine's bug costs this model on this device, and nothing else.
            log.exception("loading failed", model=model.digest[:12], device=seat.spec.name)
            return "compute_failed", f"{type(error).__name__}: {error}"
        if model.retired:
            device.unload(engine)
        elif seat.device is device:
            seat.engines[model.digest] = engine
            log.info("model loaded", model=model.digest[:12], device=seat.spec.name)
        return None

    def _settle(self, model: StagedModel) -> None:
        """See whether the model is ready, or cannot be computed by any device."""
        if model.retired:
            return
        open_seats = [seat for seat in self._seats if seat.device is not None]
        if any(model.digest in seat.engines for seat in open_seats):
            model.ready = True
        elif open_seats and all(model.digest in seat.refused for seat in open_seats):
            self.fail(model, *open_seats[0].refused[model.digest])
        self._changed()

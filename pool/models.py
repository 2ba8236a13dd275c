"""The models a pool offers: what is registered, where its files lie, how customers name it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from pool.store import Store
from pool.store.schema import model as model_table
from stratum.manifest import (
    BLAKE2B,
    File,
    Manifest,
    decode_manifest,
    encode_manifest,
    manifest_digest,
)


def object_of(file: File) -> str:
    """The name of a model's file in the object store."""
    return f"models/{file.sha256}"


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One model. ``name`` is what customers write, ``digest`` what rigs are told."""

    name: str
    digest: str
    text: bytes  # the manifest's canonical text
    manifest: Manifest
    tokenizer_path: Path | None
    added: float

    @property
    def engine_files(self) -> tuple[File, ...]:
        """The files that a rig needs."""
        return tuple(file for file in self.manifest.files if file.role == "engine")


class Models:
    """All registered models, read from the store; ``refresh`` after another process added one."""

    def __init__(self, store: Store, *, builtin: bool = True) -> None:
        """Read what is registered now; ``builtin`` adds ``blake2b``."""
        self._store = store
        self._builtin = builtin
        self._by_name: dict[str, RegisteredModel] = {}
        self._by_digest: dict[str, RegisteredModel] = {}
        self.refresh()

    def refresh(self) -> list[RegisteredModel]:
        """Read again; returns the models that are new."""
        with self._store.database.read() as connection:
            rows = connection.execute(select(model_table).order_by("id")).all()
        builtin = self._builtin_model()
        known = [builtin]
        offered = [builtin] if self._builtin else []
        for row in rows:
            model = self._registered(row.name, row.manifest, row.added)
            known.append(model)
            if row.retired is None:
                offered.append(model)
        new = [model for model in offered if model.digest not in self._by_digest]
        self._by_name = {model.name: model for model in offered}
        # Whatever was ever registered: jobs under way still name it.
        self._by_digest = {model.digest: model for model in known}
        return new

    def get(self, name: str) -> RegisteredModel | None:
        """The model that customers call ``name``."""
        return self._by_name.get(name)

    def by_digest(self, digest: str) -> RegisteredModel:
        """The model with this manifest digest; ``KeyError`` if it was never registered."""
        return self._by_digest[digest]

    def ever(self, name: str) -> RegisteredModel | None:
        """The model that customers call ``name``, or did before it was retired."""
        named = (model for model in self._by_digest.values() if model.name == name)
        return self._by_name.get(name) or next(named, None)

    def list(self) -> Iterable[RegisteredModel]:
        """Every model on offer, in the order they were added."""
        return tuple(self._by_name.values())

    def path(self, file: File) -> Path:
        """Where a model's file lies on this machine."""
        return self._store.objects.local_path(object_of(file))

    def file(self, sha256: str) -> File | None:
        """The engine file with this digest, whichever model it is of."""
        for model in self._by_digest.values():
            for file in model.engine_files:
                if file.sha256 == sha256:
                    return file
        return None

    def _registered(self, name: str, text: bytes, added: float) -> RegisteredModel:
        manifest = decode_manifest(text)
        tokenizers = [file for file in manifest.files if file.role == "tokenizer"]
        return RegisteredModel(
            name=name,
            digest=manifest_digest(text),
            text=text,
            manifest=manifest,
            tokenizer_path=self.path(tokenizers[0]) if tokenizers else None,
            added=added,
        )

    def _builtin_model(self) -> RegisteredModel:
        return self._registered("blake2b", encode_manifest(BLAKE2B), 0.0)

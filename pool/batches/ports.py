"""What the customer's side needs of the rest of the pool."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stratum.manifest import File, Manifest


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an open job is. ``rate``: work accepted a second; ``eta``: seconds, if known."""

    rows: int
    accepted_rows: int
    cleared_rows: int
    rate: float
    eta: float | None


class Core(Protocol):
    """The board and the commits behind it."""

    async def open_job(self, job: int) -> None:
        """Let a stored job be worked on."""

    def cancel_job(self, job: int, reason: str) -> None:
        """Lease no more rows of a job (``cancelled`` or ``expired``); its end follows."""

    def progress(self, job: int) -> Progress | None:
        """How far a job is; None when it is not open."""


class RegisteredModel(Protocol):
    """One model on offer."""

    @property
    def name(self) -> str:
        """What customers write."""

    @property
    def digest(self) -> str:
        """What rigs are told: the manifest's digest, hex."""

    @property
    def text(self) -> bytes:
        """The manifest as it is hashed."""

    @property
    def manifest(self) -> Manifest:
        """Shape, numerics and files."""

    @property
    def tokenizer_path(self) -> Path | None:
        """The file tokenizer.json; None for a model that takes token ids only."""

    @property
    def added(self) -> float:
        """When it was registered, seconds since the epoch."""


class ModelRegistry(Protocol):
    """The models on offer."""

    def get(self, name: str) -> RegisteredModel | None:
        """The model that customers call ``name``."""

    def by_digest(self, digest: str) -> RegisteredModel:
        """The model with this manifest digest, on offer or not; ``KeyError`` for no model."""

    def list(self) -> Iterable[RegisteredModel]:
        """Every model on offer."""

    def path(self, file: File) -> Path:
        """Where a model's file lies on this machine."""

    def file(self, sha256: str) -> File | None:
        """The engine file with this SHA-256."""


class Clock(Protocol):
    """The pool's clock."""

    def now(self) -> float:
        """Seconds since the epoch."""

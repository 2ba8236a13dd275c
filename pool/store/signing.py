"""The key that signs roots: ``DIR/receipts.key``, an Ed25519 seed in hex, the owner's alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_FILE = "receipts.key"


class Signer:
    """Signs with one key. Safe from several threads."""

    def __init__(self, seed: bytes) -> None:
        """``seed``: 32 secret bytes. Raises ``ValueError`` for another length."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()  # 32 bytes

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(message)


def make_key(path: Path) -> None:
    """Write a new key, whole or not at all; a key that another process wrote meanwhile stays."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(new, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        new.unlink(missing_ok=True)


def read_key(path: Path) -> Signer:
    """The signer of a key file. Raises ``ValueError`` when it holds no key."""
    return Signer(bytes.fromhex(path.read_text(encoding="ascii").strip()))

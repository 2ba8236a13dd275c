"""The ledger's chain: each entry's hash covers all that it says and the hash of the entry before.

Whoever noted one hash can prove later that nothing before it was altered, left out or put in.

    hash  SHA-256 of "inferpool.entry.1", previous 32, seq 8, txn 8, amount 8 (signed), at 8,
          then kind, ref and account code, each UTF-8 behind its length 4

Integers are big-endian; ``at`` is in microseconds since the epoch; ``previous`` is zeros in the
first entry.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256

HASH_BYTES = 32
FIRST_PREVIOUS = bytes(HASH_BYTES)

_ENTRY = b"inferpool.entry.1"


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transaction. Entries are numbered from 1, transactions too, without gaps."""

    seq: int
    txn: int
    kind: str
    ref: str
    account_code: str
    amount: int
    at: float  # seconds since the epoch

    def hashed(self, previous: bytes) -> bytes:
        """Its hash behind the entry whose hash is ``previous``."""
        numbers = struct.pack(">QQqQ", self.seq, self.txn, self.amount, round(self.at * 1e6))
        texts = [text.encode() for text in (self.kind, self.ref, self.account_code)]
        packed = b"".join(struct.pack(">I", len(text)) + text for text in texts)
        return sha256(_ENTRY + previous + numbers + packed).digest()

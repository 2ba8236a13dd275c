"""Payouts to an HTTP endpoint: one signed request each, with a key that makes it idempotent.

    POST URL        {"id": key, "account": …, "kind": …, "address": …, "amount": "…"}
    GET  URL/KEY    what became of it

Both are answered with ``{"id": key, "status": …, "reference": …, "reason": …}``, where status is
``submitted`` or ``finalised`` (taken), ``refused`` (not taken, a person must look), ``busy`` (not
taken, send it again later) or ``unknown`` (to GET: never heard of it). Whatever else comes back
proves nothing. The signature is that of the Standard Webhooks specification (1.0.0), symmetric:
HMAC-SHA256 over ``ID.TIMESTAMP.BODY``, also over an empty body.
"""

from __future__ import annotations

import hmac
import json
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from time import monotonic

import httpx
import msgspec

from pool.payouts.carrier import Answer, NotTaken, Taken, Unknown
from pool.store.payouts import Payout

SECONDS = 20.0  # without a word
_WHOLE_SECONDS = 60.0  # of an answer
_LARGEST = 65_536  # bytes of an answer


class _Reply(msgspec.Struct):
    id: str
    status: str
    reference: str | None = None
    reason: str | None = None


class Endpoint:
    """A carrier that asks an HTTP endpoint of the operator's."""

    name = "http"
    kind = ""
    together = False
    tells = True

    def __init__(
        self,
        url: str,
        secret: bytes,
        multiplier: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``multiplier``: what one of our units is in the far side's smallest."""
        self._url = url.rstrip("/")
        self._secret = secret
        self._multiplier = multiplier
        self._now = now

    def submit(self, payouts: Sequence[Payout]) -> list[Answer]:
        """Send each payout once."""
        with httpx.Client(timeout=SECONDS, follow_redirects=False) as client:
            return [self._send(client, payout) for payout in payouts]

    def look_up(self, payout: Payout) -> Answer:
        """Ask what became of a payout."""
        with httpx.Client(timeout=SECONDS, follow_redirects=False) as client:
            return self._ask(client, payout, "GET", f"{self._url}/{payout.key}", b"")

    def _send(self, client: httpx.Client, payout: Payout) -> Answer:
        body = json.dumps(
            {
                "id": payout.key,
                "account": payout.account,
                "kind": payout.kind,
                "address": payout.address,
                "amount": str(payout.units * self._multiplier),
            },
            separators=(",", ":"),
        ).encode()
        return self._ask(client, payout, "POST", self._url, body)

    def _ask(
        self, client: httpx.Client, payout: Payout, method: str, url: str, body: bytes
    ) -> Answer:
        timestamp = str(int(self._now()))
        signed = f"{payout.key}.{timestamp}.".encode() + body
        signature = b64encode(hmac.digest(self._secret, signed, "sha256")).decode()
        headers = {
            "content-type": "application/json",
            "user-agent": "inferpool",
            "idempotency-key": payout.key,
            "webhook-id": payout.key,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }
        began = monotonic()
        try:
            with client.stream(method, url, headers=headers, content=body) as answer:
                data = b""
                for chunk in answer.iter_bytes():
                    data += chunk
                    if len(data) > _LARGEST or monotonic() - began > _WHOLE_SECONDS:
                        return Unknown(
                            f"the answer is longer than {_LARGEST} bytes or {_WHOLE_SECONDS:g} s"
                        )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if method == "POST":
                # No connection, so nothing was said on it.
                return NotTaken(f"no connection: {error}"[:200], again=True)
            return Unknown(f"no connection: {error}"[:200])
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Unknown(f"{type(error).__name__}: {error}"[:200])
        return _read(payout, method, answer.status_code, data)


def _read(payout: Payout, method: str, status: int, data: bytes) -> Answer:
    try:
        reply = msgspec.json.decode(data, type=_Reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Unknown(f"status {status}, and no answer that can be read")
    if reply.id != payout.key:
        return Unknown(f"status {status}, and an answer about {reply.id[:80]!r}")
    reason = (reply.reason or reply.status)[:200]
    match reply.status:
        case "submitted" | "finalised":
            reference = None if reply.reference is None else reply.reference[:200]
            return Taken(reference, final=reply.status == "finalised")
        case "refused":
            return NotTaken(reason, again=False)
        case "busy" if method == "POST":  # to GET it says nothing about what came before
            return NotTaken(reason, again=True)
        case "unknown" if method == "GET":
            return NotTaken("the far side has never heard of it", again=True)
    return Unknown(f"status {status}, and an answer that says {reply.status[:80]!r}")

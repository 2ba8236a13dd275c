#!/usr/bin/env python3
"""A whole rig in one file: it serves the pool's built-in model `blake2b`.

It needs Python and the `msgpack` package, nothing of inferpool. Read it beside docs/PROTOCOL.md.

    python examples/minimal_worker.py --pool 127.0.0.1:3333 --user alice.rig1 --token-file token
"""

import argparse
import contextlib
import hashlib
import json
import random
import socket
import struct
import time
from pathlib import Path

import msgpack

CREDIT = 2  # shares we are ready to hold at once
ROW_BYTES = 32
PART_ROWS = (1 << 20) // ROW_BYTES  # a part holds at most 1 MiB of results
FATAL = (24, 32, 33)  # unauthorized, banned, wrong protocol: trying again would not help
LIVELY = 60.0  # seconds of silence before we ping; after three times that we reconnect


class ReconnectAsked(Exception):  # noqa: N818 - a wish, not an error
    """The pool asked us to come back: (host, port, seconds to wait)."""


class Worker:
    """One rig. What it must remember across connections lives here."""

    def __init__(self, user, token, limit):
        self.user, self.token, self.limit = user, token, limit
        self.session = ""  # the pool's name for our last connection
        self.unacknowledged = {}  # {(lease, part): the fields of its mining.submit}
        self.shares = 0  # completed: their last part was acknowledged

    def shake_hands(self):
        """Make ourselves known, and send again what was never acknowledged."""
        self.received = bytearray()
        self.silent = self.last_id = 0
        self.submits = {}  # {request id: (lease, part)}
        self.call("mining.configure", 1, "minimal-worker/1.0", {})
        self.session = self.call("mining.subscribe", self.session, CREDIT, [[0, "cpu", 0]])[0]
        self.call("mining.authorize", self.user, self.token)
        for lease, part in list(self.unacknowledged):
            self.submit(lease, part)

    def send(self, *message):
        """A frame is a 4-byte big-endian length and one MessagePack array."""
        body = msgpack.packb(message)
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self):
        """The next message, pinging a silent pool."""
        while True:
            if len(self.received) >= 4:
                (size,) = struct.unpack_from(">I", self.received)
                if len(self.received) >= 4 + size:
                    body = bytes(self.received[4 : 4 + size])
                    del self.received[: 4 + size]
                    return msgpack.unpackb(body)
            try:
                data = self.socket.recv(1 << 20)
            except TimeoutError:
                self.silent += 1
                if self.silent == 3:
                    raise ConnectionError("the pool is silent") from None
                self.request("mining.ping")
                continue
            if not data:
                raise ConnectionError("the pool closed the connection")
            self.silent = 0
            self.received += data

    def request(self, method, *fields):
        """Send a request; its answer will carry the id returned."""
        self.last_id += 1
        self.send(method, self.last_id, *fields)
        return self.last_id

    def call(self, method, *fields):
        """Send a request and wait for its answer, handling what comes in between."""
        request = self.request(method, *fields)
        while True:
            message = self.receive()
            if message[:2] == ["result", request]:
                return message[2]
            if message[:2] == ["error", request]:
                text = f"the pool refused {method}: {message[2:5]}"
                raise SystemExit(text) if message[2] in FATAL else ConnectionError(text)
            self.handle(message)

    def handle(self, message):
        """Act on one message. Fields after those that we know are ignored."""
        method, request, *fields = message
        if method == "mining.notify":
            self.compute(*fields[:5])
        elif method in ("result", "error"):
            self.answered(request, *fields[:3])
        elif method == "mining.model":
            self.stage(*fields[:2])
        elif method == "mining.ping":
            self.send("result", request, True)
        elif method == "client.reconnect":
            raise ReconnectAsked(*fields[:3])
        elif method == "client.show_message":
            print("pool:", fields[0], flush=True)
        elif request:  # something that a later pool may ask
            self.send("error", request, 20, "unknown_method", "")
        # mining.cancel needs nothing here: a share is computed the moment it arrives.

    def stage(self, model, manifest):
        """Check the manifest against its name; say whether we can compute the model."""
        genuine = hashlib.sha256(manifest).hexdigest() == model
        if genuine and json.loads(manifest)["architecture"] == "blake2b":
            self.request("mining.model_ready", model)
        else:
            self.request("mining.model_failed", model, "unsupported" if genuine else "bad_manifest")

    def compute(self, lease, _model, _operation, _timeout, rows):
        """A row's result: the BLAKE2b of its token ids as little-endian uint32."""
        if self.limit and self.shares >= self.limit:
            self.request("mining.release", lease, "stopping")
            return
        lengths, tokens = rows[0][2], rows[1][2]  # bytes; before them dtype and shape
        digests, start = [], 0
        for (length,) in struct.iter_unpack("<I", lengths):
            row = tokens[4 * start : 4 * (start + length)]
            digests.append(hashlib.blake2b(row, digest_size=ROW_BYTES).digest())
            start += length
        for part, first in enumerate(range(0, len(digests), PART_ROWS)):
            some = digests[first : first + PART_ROWS]
            values = ["|u1", [len(some), ROW_BYTES], b"".join(some)]
            final = first + len(some) == len(digests)
            self.unacknowledged[lease, part] = (first, final, [values, []])
            self.submit(lease, part)

    def submit(self, lease, part):
        """Send one part. It stays in `unacknowledged` until the pool has answered."""
        request = self.request("mining.submit", lease, part, *self.unacknowledged[lease, part])
        self.submits[request] = (lease, part)

    def answered(self, request, code, reason="", words=""):
        """A part was acknowledged (`code` is True; 22: it had been before), or is not wanted."""
        if request == 0:
            raise ConnectionError(f"{reason}: {words}")
        if request not in self.submits:
            return  # the answer to model_ready and the like
        key = self.submits.pop(request)
        _first, final, _outcome = self.unacknowledged.pop(key)
        if code not in (True, 22):
            print(f"share {key[0]} part {key[1]} refused: {reason} ({code}) {words}", flush=True)
        elif final:
            self.shares += 1
            print(f"share {key[0]} done, {self.shares} in all", flush=True)

    def run(self, host, port):
        """Serve until the limit of shares is done, reconnecting with backoff and jitter."""
        home, wait = (host, port), 1.0
        while True:
            try:
                with socket.create_connection((host, port), timeout=LIVELY) as self.socket:
                    self.shake_hands()
                    print(f"connected to {host}:{port} as {self.user}", flush=True)
                    wait = 1.0
                    while not self.limit or self.shares < self.limit or self.unacknowledged:
                        self.handle(self.receive())
                    return
            except ReconnectAsked as asked:
                new_host, new_port, pause = asked.args
                host, port = new_host or host, new_port or port
            except OSError as error:
                print(f"{host}:{port}: {error}; again in {wait:.0f} s", flush=True)
                (host, port), pause = home, wait
                wait = min(2 * wait, 60.0)
            time.sleep(pause + random.random() * min(pause, 1.0))


def main():
    """Read the options and work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pool", default="127.0.0.1:3333", metavar="HOST:PORT")
    add("--user", required=True, metavar="ACCOUNT.RIG")
    add("--token-file", required=True, type=Path)
    add("--shares", type=int, default=0, help="stop after so many (0: never)")
    options = parser.parse_args()
    host, _, port = options.pool.rpartition(":")
    worker = Worker(options.user, options.token_file.read_text().strip(), options.shares)
    with contextlib.suppress(KeyboardInterrupt):
        worker.run(host.strip("[]"), int(port))


if __name__ == "__main__":
    main()

"""A whole pool for tests: real processes, real TCP, a real store; and ways to kill them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from pool.store import Store
from pool.store.accounts import create_account
from pool.store.escrow import deposit

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0

# Small shares and short windows, so that a second of a test holds many of everything.
SETTINGS = """\
builtin_models = true
[shares]
target_seconds = 0.5
window_seconds = 1.0
initial_difficulty = 16
min_difficulty = 4
lease_min_seconds = 5.0
disconnect_grace_seconds = 2.0
[trust]
clearing_seconds = 0.2
check_patience_seconds = 1.0
[money]
settle_seconds = 0.2
"""


class Process:
    """A program of ours whose log lines are read as they come."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.command = command
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self.lines.append(line.rstrip())

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs."""
        return self._process.poll()

    def text(self, words: str) -> str:
        """Wait for a log line that holds ``words``."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.lines:
                if words in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no {words!r} from {self.command}:\n" + self.log())

    def log(self) -> str:
        """The last lines it wrote."""
        return "\n".join(self.lines[-60:])

    def kill(self) -> None:
        """SIGKILL: no handler, no flush."""
        if self.code is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(5)

    def stop(self) -> int:
        """SIGTERM, and wait for it to end by itself."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("did not stop on SIGTERM:\n" + self.log()) from None
        finally:
            self._reader.join(5)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for it to end."""
        code = self._process.wait(seconds)
        self._reader.join(5)
        return code


def inferpool(*arguments: str, environment: dict[str, str] | None = None) -> list[str]:
    """The command line of ``inferpool``."""
    return [sys.executable, "-m", "pool", *arguments]


def run(*arguments: str) -> dict[str, Any]:
    """Run a command with ``--json`` and return what it prints."""
    done = subprocess.run(
        inferpool(*arguments, "--json"), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now (a pool is restarted on the same ones)."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Pool:
    """One pool under a folder: started, killed and started again on the same ports."""

    def __init__(self, folder: Path, settings: str = SETTINGS) -> None:
        self.folder = folder
        self.stratum_port, self.http_port = free_ports(2)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pool.toml").write_text(settings)
        self.tokens: dict[str, str] = {}
        self.process: Process | None = None

    @property
    def url(self) -> str:
        """Of its HTTP side."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def config(self) -> list[str]:
        """The option that names its settings."""
        return ["--config", str(self.folder / "pool.toml")]

    def account(self, name: str, role: str) -> str:
        """Create an account; returns the file that holds its token."""
        # In this process: a command of the command line takes a second to start.
        with self.store() as store:
            token = create_account(store.database, name, role, time.time())
        file = self.folder / f"{name}.token"
        file.write_text(token)
        file.chmod(0o600)
        self.tokens[name] = token
        return str(file)

    def credit(self, name: str, units: int) -> None:
        """Give a customer (or the reserve) units."""
        with self.store() as store:
            deposit(store.database, name, units, time.time())

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """Its store, as a command opens it beside a running pool."""
        store = Store.open(self.folder)
        try:
            yield store
        finally:
            store.close()

    def start(self, crash_at: str = "") -> Process:
        """Serve; returns once both listeners accept, or once it has died at a crash point."""
        self.process = Process(
            inferpool(
                "serve",
                *self.config,
                "--stratum",
                f"127.0.0.1:{self.stratum_port}",
                "--http",
                f"127.0.0.1:{self.http_port}",
            ),
            {"INFERPOOL_CRASH_AT": crash_at} if crash_at else {},
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.code is not None:
                if crash_at and self.process.code == -signal.SIGKILL:
                    return self.process
                raise AssertionError("the pool did not start:\n" + self.process.log())
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return self.process
            time.sleep(0.05)
        raise AssertionError("the pool is not ready:\n" + self.process.log())

    def client(self, account: str) -> httpx.Client:
        """An HTTP client with the account's key."""
        return httpx.Client(
            base_url=f"{self.url}/v1",
            headers={"Authorization": f"Bearer {self.tokens[account]}"},
            timeout=30,
        )


class Rig:
    """A slow rig of ours: the real client, whose engine takes its time."""

    def __init__(self, pool: Pool, user: str, token_file: str, rows_per_second: float) -> None:
        self._command = [
            sys.executable,
            str(Path(__file__).with_name("slow_rig.py")),
            "--pool",
            f"stratum+tcp://127.0.0.1:{pool.stratum_port}",
            "--user",
            user,
            "--token-file",
            token_file,
            "--cache",
            str(pool.folder / "cache"),
            "--rows-per-second",
            str(rows_per_second),
        ]
        self.process = Process(self._command)

    def kill_and_restart(self) -> None:
        """As a power cut and a new start."""
        self.process.kill()
        self.process = Process(self._command)


def digest_lines(rows: int, seed: int) -> bytes:
    """A batch for ``/v1/digests``: rows of various lengths."""
    dice = random.Random(seed)
    lines = []
    for row in range(rows):
        tokens = [dice.randrange(1 << 32) for _ in range(dice.randrange(1, 60))]
        body = {"model": "blake2b", "input": tokens}
        lines.append(
            json.dumps(
                {"custom_id": f"row-{row}", "method": "POST", "url": "/v1/digests", "body": body}
            )
        )
    return ("\n".join(lines) + "\n").encode()


def expected_digests(lines: bytes) -> dict[str, str]:
    """{custom_id: hex digest}, computed here and by nobody else."""
    expected = {}
    for line in lines.splitlines():
        request = json.loads(line)
        tokens = request["body"]["input"]
        data = struct.pack(f"<{len(tokens)}I", *tokens)
        expected[request["custom_id"]] = hashlib.blake2b(data, digest_size=32).hexdigest()
    return expected


def submit(client: httpx.Client, lines: bytes, endpoint: str = "/v1/digests") -> str:
    """Upload and create a batch; returns its id."""
    uploaded = client.post(
        "/files", files={"file": ("batch.jsonl", lines)}, data={"purpose": "batch"}
    )
    assert uploaded.status_code == 200, uploaded.text
    created = client.post(
        "/batches",
        json={
            "input_file_id": uploaded.json()["id"],
            "endpoint": endpoint,
            "completion_window": "24h",
        },
    )
    assert created.status_code == 200, created.text
    return str(created.json()["id"])


def patient(client: httpx.Client, path: str) -> httpx.Response:
    """GET that waits for a pool that is being restarted."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return client.get(path)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_for_batch(client: httpx.Client, batch: str, seconds: float = 120.0) -> dict[str, Any]:
    """Poll until the batch has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        facts: dict[str, Any] = patient(client, f"/batches/{batch}").json()
        if facts["status"] in {"completed", "failed", "expired", "cancelled"}:
            return facts
        time.sleep(0.2)
    raise AssertionError(f"the batch did not end: {facts}")


def output_of(client: httpx.Client, batch: dict[str, Any]) -> bytes:
    """The output file's bytes."""
    return patient(client, f"/files/{batch['output_file_id']}/content").content


def check_output(output: bytes, lines: bytes) -> None:
    """Every row once, in the customer's order, with the right bits."""
    expected = expected_digests(lines)
    answers = [json.loads(line) for line in output.splitlines()]

    assert [answer["custom_id"] for answer in answers] == list(expected)
    for answer in answers:
        (datum,) = answer["response"]["body"]["data"]
        assert datum["digest"] == expected[answer["custom_id"]]


@contextlib.contextmanager
def pool_with_rigs(
    folder: Path, speeds: dict[str, float], settings: str = SETTINGS
) -> Iterator[tuple[Pool, list[Rig]]]:
    """A pool (not started), a customer ``carol``, a seeded reserve, and rigs that keep trying."""
    pool = Pool(folder, settings)
    pool.account("carol", "customer")
    pool.credit("carol", 1_000_000_000)
    pool.credit("reserve", 1_000_000)
    rigs = [
        Rig(pool, f"{name}.rig", pool.account(name, "miner"), speed)
        for name, speed in speeds.items()
    ]
    try:
        yield pool, rigs
    finally:
        for rig in rigs:
            rig.process.kill()
        if pool.process is not None:
            pool.process.kill()

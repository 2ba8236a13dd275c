"""Checks of the way to a pool: name, port, TLS, protocol, clock. No account is needed."""

from __future__ import annotations

import socket
import ssl
import time
from importlib.metadata import version
from pathlib import Path

import trio

from gpu_worker.config import PoolAddress
from gpu_worker.doctor.findings import Finding, failure, ok, warning
from stratum.client import RigConnection, connect
from stratum.errors import ConnectionClosed, ProtocolViolation, Refusal, words_of
from stratum.messages import PROTOCOL, Configure

_SECONDS = 15.0
_CLOCKS_APART = 30.0
"""Seconds; certificates and the times in logs are what a wrong clock spoils."""


async def check_pool(address: PoolAddress, ca: Path | None) -> list[Finding]:
    """Dial a pool and begin the handshake; leave before anybody has to say who they are."""
    check = f"pool {address}"
    began = trio.current_time()
    try:
        connection = await connect(str(address), ca_file=ca)
    except ssl.SSLError as error:
        return [
            failure(
                check,
                f"its certificate is not to be trusted: {error}",
                "check the name in --pool and this machine's clock; a pool with a certificate of "
                "its own gives you a file for --ca",
            )
        ]
    except socket.gaierror as error:
        return [failure(check, f"its name is not known: {error}", "check --pool and the DNS")]
    except OSError as error:
        return [
            failure(
                check,
                f"it cannot be reached: {error}",
                "check the port in --pool and the firewalls between, and whether the pool runs",
            )
        ]
    connected = trio.current_time() - began
    async with connection:
        return [
            ok(check, f"connected in {connected * 1e3:.0f} ms{', TLS' if address.tls else ''}"),
            *await _greet(connection, address),
        ]


async def _greet(connection: RigConnection, address: PoolAddress) -> list[Finding]:
    check = f"protocol {address}"
    remedy = "check that --pool names the pool's stratum port, and not its HTTP port"
    asked = trio.current_time()
    try:
        with trio.fail_after(_SECONDS):
            answer = await connection.call(
                Configure, protocol=PROTOCOL, agent=f"inferpool/{version('inferpool')} doctor"
            )
    except trio.TooSlowError:
        return [failure(check, f"no answer within {_SECONDS:.0f} seconds", remedy)]
    except (Refusal, ConnectionClosed) as error:
        words = error.message or words_of(error.reason)
        return [failure(check, f"{error.reason}: {words}", remedy)]
    except ProtocolViolation as error:
        return [failure(check, f"it does not speak our protocol: {error}", remedy)]
    took = trio.current_time() - asked
    findings = [
        ok(
            check,
            f"{answer.get('agent', 'a pool')} speaks version {answer.get('protocol')}, "
            f"answers in {took * 1e3:.0f} ms",
        )
    ]
    clock = answer.get("time")
    if isinstance(clock, int | float):
        # It was read there about half a round trip ago.
        findings.append(clocks(float(clock) - (time.time() - took / 2)))
    return findings


def clocks(ahead: float) -> Finding:
    """Judge how far the pool's clock is ahead of ours, in seconds."""
    side = "ahead of" if ahead > 0 else "behind"
    text = f"the pool's is {abs(ahead):.1f} s {side} this machine's"
    if abs(ahead) > _CLOCKS_APART:
        return warning("clock", text, "let this machine set its clock over the network (NTP)")
    return ok("clock", text)

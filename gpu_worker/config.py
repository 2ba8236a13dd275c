"""What a rig is told: which pools, who it is, and how much it takes on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from gpu_worker.devices.choice import DeviceSpec
from stratum.addresses import parse_url

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class PoolAddress:
    """Where a pool listens; ``tls`` for ``stratum+ssl``."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        scheme = "stratum+ssl" if self.tls else "stratum+tcp"
        return f"{scheme}://{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """``host`` as a URL spells it: an IPv6 address goes into brackets."""
    return f"[{host}]" if ":" in host else host


def parse_pool(url: str) -> PoolAddress:
    """Read ``stratum+tcp://HOST:PORT`` or ``stratum+ssl://HOST:PORT``.

    Raises ``ValueError`` in words for the miner.
    """
    if "@" in url:
        raise ValueError("a pool URL carries no user and no password: use --user and --token-file")
    host, port, tls = parse_url(url)
    if port == 0:
        raise ValueError(f"pool {url!r} has no valid port: use the one that the pool names")
    return PoolAddress(host, port, tls)


def check_user(user: str) -> str:
    """Return ``user`` when it is ``ACCOUNT.RIG``; raise ``ValueError`` in words otherwise."""
    names = user.split(".")
    if len(names) != 2:
        raise ValueError(
            f"user {user!r} must be ACCOUNT.RIG with exactly one dot, for example alice.rig1"
        )
    for what, name in zip(("account", "rig"), names, strict=True):
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{what} name {name!r} in user {user!r} must be 1 to 32 of a-z, 0-9, _ and -, "
                "beginning with a letter or a digit"
            )
    return user


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/inferpool``, or ``~/.cache/inferpool``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is invalid and must be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "inferpool"


@dataclass(frozen=True, slots=True, kw_only=True)
class RigConfig:
    """Everything a rig is told. Times are seconds, sizes bytes."""

    pools: tuple[PoolAddress, ...]
    """In order of preference; the first that answers is used, the first of all is returned to."""
    user: str
    token: str = field(repr=False)
    cache: Path = field(default_factory=default_cache)
    cache_limit: int = 64 << 30
    backend: str = "auto"
    threads: int | None = None
    devices: tuple[DeviceSpec, ...] = ()
    """What computes; without any, ``backend`` and ``threads`` in the rig's own process."""
    credit: int = 3
    """Shares held at once for each device: one uploads, one computes, one arrives."""
    ca: Path | None = None
    """Certificates to trust instead of the system's, for ``stratum+ssl`` and https."""
    receipts: Path | None = None
    """Where to keep receipts of what was delivered; nowhere when it is left out."""
    drain: float = 20.0
    """How long a share that is computing may take to finish when the rig is told to stop."""
    part_bytes: int = 1 << 20
    part_rows: int = 256
    part_seconds: float = 2.0
    """A part ends at whichever of these three comes first, and holds one row at least."""
    connect_timeout: float = 10.0
    first_backoff: float = 1.0
    longest_backoff: float = 60.0
    denied_backoff: float = 120.0
    """The wait after a refused name or token: somebody has to act before it can succeed."""
    good_session: float = 10.0
    """A session that lasted this long resets the wait before the next try."""
    probe_interval: float = 60.0
    """How often a rig on a lesser pool looks whether the first is back."""

    def __post_init__(self) -> None:
        if not self.pools:
            raise ValueError("pools must name one pool at least")
        if self.credit < 1:
            raise ValueError(f"credit must be 1 or more, not {self.credit}")
        check_user(self.user)

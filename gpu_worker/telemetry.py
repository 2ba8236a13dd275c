"""What a rig counts: for itself and for each of its devices."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass(slots=True)
class DeviceTelemetry:
    """Counters of one device since the rig started, and what its sensors say now."""

    name: str
    """What the rig calls it, such as ``gpu0``."""
    kind: str = ""
    """What its maker calls it."""
    state: str = "starting"
    """``starting``, ``ready``, ``restarting`` or ``left out``."""
    pci: str = ""
    """A GPU's bus id, by which its sensors are found."""
    rows: int = 0
    tokens: int = 0
    busy_seconds: float = 0.0
    """Seconds that chunks took."""
    idle_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds between two runs: ``handover`` with the next one at hand, ``no_share`` without."""
    stage_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds by stage, as the engine tells them; empty when it does not."""
    parts_accepted: int = 0
    parts_refused: int = 0
    restarts: int = 0
    """How often its process was replaced."""
    power_watts: float | None = None
    temperature: float | None = None
    """Degrees Celsius."""
    energy_joules: float = 0.0
    """Energy used since the rig started; 0 where no sensor tells."""
    memory_used: int | None = None
    memory_total: int | None = None
    utilisation: float | None = None
    """From 0 to 1."""
    throttled: bool | None = None
    """Whether heat or power keeps it slower than it could be."""

    @property
    def idle_share(self) -> float | None:
        """The part of the time between first and last run in which nothing was computed."""
        idle = sum(self.idle_seconds.values())
        whole = idle + self.busy_seconds
        return idle / whole if whole > 0 else None


@dataclass(slots=True)
class Telemetry:
    """Counters since the rig started, and gauges of now."""

    rows: int = 0
    """Rows computed."""
    tokens: int = 0
    """Tokens of the rows computed."""
    shares_taken: int = 0
    """Shares that the pool sent."""
    shares_done: int = 0
    """Shares of which the pool acknowledged every part."""
    shares_lost: Counter[str] = field(default_factory=Counter)
    """Shares that ended otherwise, by why: ``cancelled``, ``refused``, ``released``, ``stale``."""
    parts_accepted: int = 0
    """Parts that the pool acknowledged."""
    parts_refused: Counter[str] = field(default_factory=Counter)
    """Parts that the pool refused, by its reason code."""
    busy_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds spent by stage: ``download``, ``load``, ``compute``, ``acknowledge``."""
    sessions: int = 0
    """Sessions that the pool authorised."""
    connected: bool = False
    """Whether a session is open."""
    pool: str = ""
    """The pool that is or was last dialled."""
    difficulty: int = 0
    """Work per share, as the pool said last."""
    shares_in_hand: int = 0
    """Shares leased to this rig now."""
    unacknowledged_bytes: int = 0
    """Bytes of results that the pool has not acknowledged."""
    devices: list[DeviceTelemetry] = field(default_factory=list)
    """One for each device, in the order of ``DeviceSpec.index``."""

    @property
    def joules(self) -> float:
        """Energy that all devices used since the rig started, as far as sensors tell."""
        return sum(device.energy_joules for device in self.devices)


_REASONS_KEPT = 32


def count_reason(counter: Counter[str], reason: str) -> None:
    """Count under ``reason``; a pool that invents ever new ones does not grow the counter."""
    known = reason in counter or len(counter) < _REASONS_KEPT
    counter[reason if known else "other"] += 1

"""A seat for each device of a rig: whoever sits there is replaced when it dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

import structlog
import trio

from gpu_worker.devices.base import Device, DeviceRefused
from gpu_worker.devices.choice import DeviceSpec
from gpu_worker.engine import DeviceLost
from gpu_worker.telemetry import DeviceTelemetry

log = structlog.get_logger()

DEATHS_TOLERATED = 5
"""Deaths within ``_DEATHS_SECONDS`` after which a device is left out."""
_DEATHS_SECONDS = 900.0
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0

OpenDevice = Callable[[DeviceSpec, DeviceTelemetry], Device]


class SeatHost(Protocol):
    """What a seat tells its rig."""

    def seat_opened(self, seat: Seat) -> None:
        """The device of the seat is ready, and has no engine."""

    def seat_closed(self, seat: Seat) -> None:
        """The device of the seat is gone: for a while, or for good (``seat.out``)."""


class Seat:
    """One device's place in the rig.

    ``engines`` {model digest: number} are those that its device has loaded; ``refused``
    {model digest: (reason, words)} those that it cannot compute.
    """

    def __init__(self, spec: DeviceSpec, telemetry: DeviceTelemetry, open_device: OpenDevice):
        self.spec = spec
        self.telemetry = telemetry
        self.device: Device | None = None
        self.kind = spec.name
        self.memory = 0
        self.out: str | None = None
        """Why the device is left out for good."""
        self.settled = trio.Event()
        """Set once the device was ready for the first time, or could not be made so."""
        self.engines: dict[str, int] = {}
        self.refused: dict[str, tuple[str, str]] = {}
        self.failures: Counter[str] = Counter()  # shares of a model that failed here in a row
        self.runs = 0  # open in the device
        self.loading = trio.Lock()
        self._open_device = open_device
        self._deaths: deque[float] = deque(maxlen=DEATHS_TOLERATED)

    async def run(self, host: SeatHost) -> None:
        """Keep the device running; returns when it is left out for good."""
        while True:
            refusal = death = ""
            try:
                await self._serve(host)
            except* DeviceRefused as group:
                refusal = str(group.exceptions[0])
            except* DeviceLost as group:
                death = str(group.exceptions[0])
            finally:
                # Also when the rig stops: nobody may use a device that is on its way out.
                self.device = None
                self.runs = 0
                self.engines.clear()
                self.refused.clear()
            self.out = refusal or self._judge(death)
            self.telemetry.state = "restarting" if self.out is None else "left out"
            host.seat_closed(self)
            self.settled.set()
            if self.out is not None:
                log.error("device left out", device=self.spec.name, reason=self.out)
                return
            await trio.sleep(min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (len(self._deaths) - 1)))
            self.telemetry.restarts += 1

    async def _serve(self, host: SeatHost) -> None:
        device = self._open_device(self.spec, self.telemetry)
        async with trio.open_nursery() as nursery:
            await nursery.start(device.serve)
            self.device, self.kind, self.memory = device, device.kind, device.memory
            self.telemetry.kind, self.telemetry.state = device.kind, "ready"
            log.info("device ready", device=self.spec.name, kind=device.kind)
            host.seat_opened(self)
            self.settled.set()

    def _judge(self, death: str) -> str | None:
        """Take note of a death; returns why the device is left out, if it died too often."""
        now = trio.current_time()
        self._deaths.append(now)
        log.error("device lost", device=self.spec.name, reason=death)
        if len(self._deaths) < DEATHS_TOLERATED or now - self._deaths[0] >= _DEATHS_SECONDS:
            return None
        return (
            f"it was lost {DEATHS_TOLERATED} times in a short while, at last because {death}; see "
            "what `inferpool doctor` says of it, then start the rig again"
        )

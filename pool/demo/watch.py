"""What the demo sees of the pool while it runs: the public status and the customer's batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pool.customer import Batch, Customer, CustomerError
from pool.demo.evidence import Standing


class RigSeen(msgspec.Struct, frozen=True):
    """One rig in ``GET /api/v1/status``."""

    account: str
    rig: str
    models: list[str] = []
    difficulty: int = 0
    rate: float | None = None
    leases: int = 0
    unjudged: int = 0
    accepted_rows: int = 0
    shares_cleared: int = 0
    shares_rejected: int = 0
    offences: int = 0

    @property
    def name(self) -> str:
        """``ACCOUNT.RIG``."""
        return f"{self.account}.{self.rig}"


class Status(msgspec.Struct, frozen=True):
    """``GET /api/v1/status``, as far as it is shown."""

    rigs: list[RigSeen] = []
    rate: float = 0.0
    checks: int = 0
    referee_rows: int = 0


@dataclass(slots=True)
class Scene:
    """The last that was seen of everyone: a rig that was banned stays in the picture."""

    rigs: dict[str, RigSeen] = field(default_factory=dict)  # {name: its last facts}
    connected: frozenset[str] = frozenset()
    rate: float = 0.0
    checks: int = 0
    referee_rows: int = 0
    batch: Batch | None = None
    standings: Mapping[str, Standing] = field(default_factory=dict)  # {name: …}

    def see(self, status: Status) -> None:
        """Take in a new status."""
        self.connected = frozenset(rig.name for rig in status.rigs)
        self.rigs |= {rig.name: rig for rig in status.rigs}
        self.rate = status.rate
        self.checks = status.checks
        self.referee_rows = status.referee_rows

    def rejected(self, name: str) -> int:
        """Shares of a rig that were rejected; of one that is gone, the pool's books know."""
        standing = self.standings.get(name)
        return max(self.rigs[name].shares_rejected, standing.rejected if standing else 0)

    def banned(self, name: str) -> bool:
        """Whether an offence of the rig is on record."""
        standing = self.standings.get(name)
        return bool(self.rigs[name].offences or (standing and standing.offences))

    def staged(self, model: str) -> frozenset[str]:
        """Connected rigs that have the model in place."""
        return frozenset(name for name in self.connected if model in self.rigs[name].models)


async def look(customer: Customer, scene: Scene, batch: str | None = None) -> None:
    """Bring ``scene`` up to date. Raises ``CustomerError`` when the pool does not answer."""
    scene.see(_status(await customer.get("/api/v1/status")))
    if batch is not None:
        scene.batch = await customer.batch(batch)


def _status(answer: dict[str, Any]) -> Status:
    try:
        return msgspec.convert(answer, Status)
    except msgspec.ValidationError as error:
        raise CustomerError(f"the pool's status is not understood: {error}") from None

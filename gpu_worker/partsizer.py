"""How many rows a device is given at once, and how many make a part."""

from __future__ import annotations

from gpu_worker.config import RigConfig
from gpu_worker.sharebook import Share

_UNMEASURED_ROWS = 32
"""Rows in a part, or in a device's piece of a share, before its speed is known."""
_PIECE_SECONDS = 2.0
"""Rows given to one of several devices at once: few enough that all end together."""
_SHORTEST_PIECE_SECONDS = 0.1


class PartSizer:
    """Rows per part, so that a part is small enough to send, to lose and to wait for."""

    def __init__(self, config: RigConfig) -> None:
        self._config = config
        self._most_bytes = config.part_bytes
        # {(device, model digest): tokens a second, smoothed}
        self._speeds: dict[tuple[int, str], float] = {}

    def fit(self, max_frame: int) -> None:
        """Keep parts below the longest frame that the pool takes, with room for what is around."""
        self._most_bytes = min(self._config.part_bytes, max_frame - 4096)

    def rows(self, device: int, share: Share, row_bytes: int) -> int:
        """Rows for each part of this share that the device makes; at least 1."""
        most = max(1, min(self._config.part_rows, self._most_bytes // row_bytes))
        speed = self._rows_a_second(device, share)
        if speed is None:
            return min(most, _UNMEASURED_ROWS)
        return max(1, min(most, int(speed * self._config.part_seconds)))

    def piece_rows(self, device: int, share: Share, devices: int) -> int:
        """Rows of this share to give to one of ``devices`` devices now; at least 1.

        Less as the share's end nears, so that none of them waits long for the last.
        """
        speed = self._rows_a_second(device, share)
        if speed is None:
            return _UNMEASURED_ROWS
        # Half of what would be fair: a device may hold a second piece that waits.
        fair = (share.rows - share.rows_dealt) / (2 * devices)
        rows = max(speed * _SHORTEST_PIECE_SECONDS, min(fair, speed * _PIECE_SECONDS))
        return max(1, int(rows))

    def measured(self, device: int, model: str, tokens: int, seconds: float) -> None:
        """Take note of a part that took ``seconds``."""
        if seconds <= 0.0 or tokens == 0:
            return
        speed = tokens / seconds
        known = self._speeds.get((device, model), speed)
        self._speeds[device, model] = known + 0.25 * (speed - known)

    def _rows_a_second(self, device: int, share: Share) -> float | None:
        speed = self._speeds.get((device, share.model))
        return None if speed is None else speed / max(1.0, len(share.tokens) / share.rows)

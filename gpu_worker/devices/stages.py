"""How long an engine spent in each of its stages since it was asked last."""

from __future__ import annotations

from gpu_worker.engine import Engine


class StageClock:
    """Differences of ``Engine.stages()``, for engines that have it."""

    def __init__(self) -> None:
        self._last: dict[int, dict[str, float]] = {}  # {id of an engine: its stages}

    def since(self, engine: Engine) -> dict[str, float]:
        """{stage: seconds} since the last call for this engine; empty when it does not tell."""
        ask = getattr(engine, "stages", None)
        if ask is None:
            return {}
        now: dict[str, float] = dict(ask())
        before = self._last.get(id(engine), {})
        self._last[id(engine)] = now
        return {stage: seconds - before.get(stage, 0.0) for stage, seconds in now.items()}

    def forget(self, engine: Engine) -> None:
        """The engine is about to be closed."""
        self._last.pop(id(engine), None)

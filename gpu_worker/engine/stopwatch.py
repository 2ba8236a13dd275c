"""Where the time of a thread goes, by stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from time import perf_counter
from typing import Any, Final

from gpu_worker.engine.ops import Ops

_STAGES: Final = {
    "embed_norm": "embed",
    "product": "products",
    "dense": "behind products",
    "dense_add": "behind products",
    "dense_norm": "behind products",
    "dense_act": "behind products",
    "dense_glu": "behind products",
    "activate": "behind products",
    "quantise": "quantise",
    "norm": "norms",
    "norm_quantise": "norms",
    "attention": "attention",
    "pool": "pool",
    "normalise": "pool",
    "finish": "pool",
}
"""{method: stage}. A method's time is its own: what other stages take inside it is theirs."""


class Stopwatch:
    """Times one object's operations from here on, in the thread that it belongs to."""

    def __init__(self, ops: Ops) -> None:
        self.seconds = dict.fromkeys(_STAGES.values(), 0.0)
        """{stage: seconds so far}; the keys never change, so other threads may read."""
        self._running: list[str] = []  # stages, each inside the one before
        self._since = 0.0
        for method, stage in _STAGES.items():
            if hasattr(ops, method):
                setattr(ops, method, self._timed(getattr(ops, method), stage))

    def _timed(self, method: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(method)
        def timed(*given: Any, **named: Any) -> Any:
            self._switch()
            self._running.append(stage)
            try:
                return method(*given, **named)
            finally:
                self._switch()
                self._running.pop()

        return timed

    def _switch(self) -> None:
        """What passed since the last switch belongs to the innermost stage."""
        now = perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

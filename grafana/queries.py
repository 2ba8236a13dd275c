"""Pieces of PromQL that several dashboards ask with."""

from __future__ import annotations

RATE = "[$__rate_interval]"


def quantile(q: float, histogram: str) -> str:
    """A quantile of a histogram, over what came lately."""
    return f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket{RATE})))"


def per_second(counter: str, *labels: str) -> str:
    """How much of a counter comes in a second, by these labels."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"sum{by} (rate({counter}{RATE}))"


def lately(counter: str, selector: str = "", span: str = "15m") -> str:
    """How much of a counter came in the last while; 0 where there is nothing of the kind yet."""
    return f"(round(sum(increase({counter}{selector}[{span}]))) or vector(0))"


REJECTED = (
    lately("inferpool_shares_total", '{verdict="rejected"}')
    + " / clamp_min(sum(increase(inferpool_shares_total[15m])), 1)"
)

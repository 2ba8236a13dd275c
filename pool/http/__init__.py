"""The customer's interface, the rigs' downloads, and what the pool shows of itself."""

from pool.http.app import create_app
from pool.http.deps import HttpDeps

__all__ = ["HttpDeps", "create_app"]

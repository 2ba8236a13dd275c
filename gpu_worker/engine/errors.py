"""The engine's one exception."""

from __future__ import annotations


class EngineError(Exception):
    """The engine cannot do what was asked; the text says what is wrong and what would work."""

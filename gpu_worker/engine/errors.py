"""The engine's exceptions."""

from __future__ import annotations


class EngineError(Exception):
    """The engine cannot do what was asked; the text says what is wrong and what would work."""


class OutOfMemory(EngineError):  # noqa: N818 - named for what happened
    """The device has too little memory for one row by itself.

    The engine halves its micro-batch and tries again before it raises this; other rows may fit.
    """


class DeviceLost(EngineError):  # noqa: N818 - named for what happened
    """The device does not work any more: the process that used it must be replaced."""

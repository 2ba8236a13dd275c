"""Giving out a whole number of units bit by bit, so that it adds up exactly."""

from __future__ import annotations


def due(total: int, done: int, of: int) -> int:
    """Units of ``total`` earned when ``done`` of ``of`` is done: floor(total · done / of).

    Posting the difference to what was posted before adds up to ``total`` exactly when ``done``
    reaches ``of``, whatever the steps. Raises ``ValueError`` unless ``0 <= done <= of``.
    """
    if not 0 <= done <= of:
        raise ValueError(f"done must be between 0 and {of}, not {done}")
    if of == 0:
        return 0
    return total * done // of

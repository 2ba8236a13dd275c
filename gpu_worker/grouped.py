"""Exceptions out of nurseries, which wrap even a single one in a group."""

from __future__ import annotations


def first_of(error: Exception) -> Exception:
    """The first exception in a group, however deep; any other as it is."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error

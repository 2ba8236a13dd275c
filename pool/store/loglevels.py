"""Levels of the log that an operator has changed: ``log-level`` writes them, the pool reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from pool.store.database import Database, meta_value, set_meta

_KEY = "log_levels"


@dataclass(frozen=True, slots=True)
class LogLevel:
    """A changed level, and until when it holds (None: until it is changed again)."""

    level: str  # debug | info | warning | error
    until: float | None


def log_levels(connection: sa.Connection, now: float) -> dict[str, LogLevel]:
    """``{name of loggers, "" for all: its level}`` of those that hold at ``now``."""
    text = meta_value(connection, _KEY)
    found = msgspec.json.decode(text, type=dict[str, LogLevel]) if text else {}
    return {name: one for name, one in found.items() if one.until is None or one.until > now}


def change_log_level(database: Database, name: str, to: LogLevel | None, now: float) -> None:
    """Let ``name`` have this level from now on; ``None``: what it had before any change.

    ``name`` may be "", which stands for all: ``None`` then takes every change back.
    """
    with database.write() as connection:
        levels = log_levels(connection, now)
        if to is not None:
            levels[name] = to
        elif name:
            levels.pop(name, None)
        else:
            levels = {}
        set_meta(connection, _KEY, msgspec.json.encode(levels).decode())


def levels_in_force(configured: str, changed: Mapping[str, LogLevel]) -> dict[str, str]:
    """``{name, "" for all: level}``, with the settings' level where none was changed."""
    return {"": configured} | {name: one.level for name, one in changed.items()}

"""The JSON files of a model's folder, read field by field; errors name the field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_worker.engine.errors import EngineError


class Settings:
    """One JSON object of a model's folder. ``null`` counts as missing."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self._values = values

    def get(self, name: str) -> Any:
        """The value, whatever it is; None if it is missing."""
        return self._values.get(name)

    def names(self) -> list[str]:
        """The names of the values."""
        return list(self._values)

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        """An integer of at least ``least``."""
        value = self.get(name)
        value = default if value is None else value
        if type(value) is not int or value < least:
            what = "a positive integer" if least == 1 else f"an integer of at least {least}"
            raise EngineError(f"{self.path.name}'s {name} is {value!r}; it must be {what}")
        return value

    def number(self, name: str, default: float) -> float:
        """A positive number, as a float."""
        value = self.get(name)
        value = default if value is None else value
        if type(value) not in (int, float) or not value > 0:
            raise EngineError(f"{self.path.name}'s {name} is {value!r}; it must be positive")
        return float(value)

    def choice(self, name: str, default: Any, supported: Sequence[Any]) -> Any:
        """A value that must be one of ``supported``; the error lists them."""
        value = self.get(name)
        value = default if value is None else value
        if value not in supported:
            raise EngineError(
                f"{self.path.name}'s {name} {value!r} is not supported; supported: "
                + ", ".join(str(known) for known in supported)
            )
        return value

    def table(self, name: str) -> dict[str, Any]:
        """A JSON object; empty if it is missing."""
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise EngineError(f"{self.path.name}'s {name} must be a JSON object")
        return value

    def refuse(self, name: str, why: str) -> None:
        """Raise if ``name`` says anything."""
        if self.get(name):
            raise EngineError(f"{self.path.name} has {name}, which is not supported: {why}")


def read_settings(path: Path) -> Settings:
    """Read a file that must be there; ``EngineError`` if it is not a JSON object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise EngineError(f"{path} must hold a JSON object")
    return Settings(path, value)


def read_optional(path: Path) -> Settings:
    """Read a file that may be missing: then nothing is set."""
    return read_settings(path) if path.exists() else Settings(path, {})


def read_json(path: Path) -> Any:
    """Any JSON value; ``EngineError`` if the file cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EngineError(
            f"cannot read {path}: {error.strerror}; the folder must hold a model in the "
            "sentence-transformers or Hugging Face layout"
        ) from error
    except ValueError as error:
        raise EngineError(f"{path} is not JSON: {error}") from error

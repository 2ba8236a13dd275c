"""Ways to look at effects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pytest

from shares.board.effects import Effect

_E = TypeVar("_E", bound=Effect)


class Picker:
    """Picks the effects of one kind out of an answer."""

    def __call__(self, effects: Iterable[Effect], kind: type[_E]) -> list[_E]:
        """All of ``kind``, in order."""
        return [effect for effect in effects if isinstance(effect, kind)]


@pytest.fixture
def of() -> Picker:
    return Picker()

"""All connected rigs, a few at a time: the loop's other work goes on in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio

from shares.board import Board
from shares.board.views import SessionView, TrustView

AT_ONCE = 100
"""About half a millisecond's worth."""


async def walk_rigs(board: Board) -> AsyncGenerator[tuple[SessionView, TrustView]]:
    """Each rig that was connected at the start and still is when its turn comes."""
    for place, number in enumerate(board.session_numbers()):
        if place % AT_ONCE == AT_ONCE - 1:
            await trio.lowlevel.checkpoint()
        view = board.session(number)
        if view is not None:
            trust = board.trust(view.account, view.rig)
            assert trust is not None, "a connected rig is known"
            yield view, trust

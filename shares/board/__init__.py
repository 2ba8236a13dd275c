"""The board: a pure state machine that leases shares, takes results and judges them."""

from shares.board.board import Board
from shares.policy import Policy

__all__ = ["Board", "Policy"]

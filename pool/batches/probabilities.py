"""Logits to probabilities: how an answer is presented. What is verified are the logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pool.batches.endpoints import Probability


def probabilities(logits: NDArray[np.float32], kind: Probability) -> NDArray[np.float64]:
    """float32 [rows, width] to float64 [rows, width] in [0, 1]; logits must be finite.

    ``sigmoid`` takes each value by itself, ``softmax`` makes each row add up to 1. No logit
    overflows: exponents are never positive.
    """
    exact = logits.astype(np.float64)
    if kind == "sigmoid":
        small = np.exp(-np.abs(exact))
        return np.asarray(np.where(exact >= 0, 1.0, small) / (1.0 + small))
    powers = np.exp(exact - exact.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))

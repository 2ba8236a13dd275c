"""The arithmetic has not changed: other machines and later versions give these bits."""

from __future__ import annotations

import json
from pathlib import Path

from make_golden import GOLDEN, compute


def test_golden_vectors(tmp_path: Path) -> None:
    """See make_golden.py before changing golden.json."""
    assert compute(tmp_path) == json.loads(GOLDEN.read_text())

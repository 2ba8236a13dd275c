"""Write the dashboards (``python grafana/generate.py``), or only ``--check`` them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import hardware
import internals
import jobs
import money
import pool_overview
import rig
import validation

HERE = Path(__file__).parent
BOARDS = {
    "pool-overview": pool_overview.BOARD,
    "validation": validation.BOARD,
    "jobs": jobs.BOARD,
    "hardware": hardware.BOARD,
    "money": money.BOARD,
    "internals": internals.BOARD,
    "rig": rig.BOARD,
}


def main() -> int:
    """0, or 1 when a file is not what the script makes."""
    check = "--check" in sys.argv[1:]
    differ = []
    for name, board in BOARDS.items():
        file = HERE / "dashboards" / f"{name}.json"
        text = json.dumps(board, indent=1, ensure_ascii=False) + "\n"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            differ.append(file.name)
            if not check:
                file.write_text(text, encoding="utf-8")
    if check and differ:
        print(f"not as grafana/generate.py makes them: {', '.join(differ)}: run it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

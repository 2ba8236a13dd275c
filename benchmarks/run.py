"""Run the benchmarks of this folder one after the other: ``make bench``.

``--short`` runs the short form of each, to see that they work; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

# {script: arguments of the short form}
BENCHMARKS: dict[str, list[str]] = {
    "engine_cpu.py": ["--short"],
    "engine_gpu.py": ["--short"],
    "store_commit.py": ["--short"],
    "receipts.py": ["--short"],
    "pool_throughput.py": ["--short"],
    "rig_idle.py": ["--short"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few seconds each")
    arguments = parser.parse_args()
    failed = 0
    for script, short in BENCHMARKS.items():
        sys.stdout.write(f"── {script}\n")
        sys.stdout.flush()
        command = [sys.executable, str(HERE / script), *(short if arguments.short else [])]
        failed += subprocess.run(command, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

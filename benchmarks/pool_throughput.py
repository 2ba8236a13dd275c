"""How fast rows travel through a whole pool: real processes, TCP, a durable store, two rigs.

The model is `blake2b`, whose results cost next to nothing, so what is measured is the house:
intake, leasing, framing, digests, commits, checks, settlement and output. Prints rows a second
from submission to the finished output, and the round trip of single direct requests.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "system"))

from harness import (
    check_output,
    digest_lines,
    output_of,
    pool_with_rigs,
    submit,
    wait_for_batch,
)

SETTINGS = """\
[shares]
target_seconds = 1.0
window_seconds = 3.0
initial_difficulty = 256
[trust]
clearing_seconds = 0.5
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--short", action="store_true", help="a few seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = 3_000 if options.short else options.rows
    requests = 10 if options.short else options.requests
    lines = digest_lines(rows, seed=1)
    with (
        tempfile.TemporaryDirectory() as folder,
        pool_with_rigs(Path(folder), {"alice": 1e9, "bob": 1e9}, SETTINGS) as (pool, rigs),
    ):
        pool.start()
        for rig in rigs:
            rig.process.text("model loaded")
        with pool.client("carol") as client:
            started = time.perf_counter()
            batch = wait_for_batch(client, submit(client, lines), 600)
            seconds = time.perf_counter() - started
            check_output(output_of(client, batch), lines)
            trips = []
            for request in range(requests):
                began = time.perf_counter()
                answer = client.post("/digests", json={"model": "blake2b", "input": [request]})
                trips.append(time.perf_counter() - began)
                assert answer.status_code == 200, answer.text
    figures = {
        "rows": rows,
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds),
        "direct_requests": requests,
        "direct_p50_ms": round(statistics.median(trips) * 1e3, 1),
        "direct_max_ms": round(max(trips) * 1e3, 1),
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:>18}  {value:,}")


if __name__ == "__main__":
    main()

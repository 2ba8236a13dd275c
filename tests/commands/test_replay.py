"""``inferpool replay``: whom this machine agrees with, in words and by the exit status."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pool.cli import cli
from shares.results import row_digests
from stratum.manifest import BLAKE2B, encode_manifest, manifest_digest

TEXT = encode_manifest(BLAKE2B)
ROWS = [[101, 7592, 2088, 102], [101, 102]]
OTHER = "ab" * 16


def right(tokens: list[int]) -> str:
    value = blake2b(np.array(tokens, "<u4").tobytes(), digest_size=32).digest()
    return row_digests(memoryview(value), 32).hex()


def bundle(**changes: Any) -> dict[str, Any]:
    rows = [
        {"row": n, "tokens": tokens, "given": OTHER, "expected": right(tokens)}
        for n, tokens in enumerate(ROWS)
    ]
    return {
        "object": "replay_bundle",
        "version": 1,
        "lease": 17,
        "user": "alice.rig",
        "model": manifest_digest(TEXT),
        "manifest": TEXT.decode(),
        "operation": "digest",
        "rows": rows,
    } | changes


def one_row(**changes: Any) -> dict[str, Any]:
    return {"row": 0, "tokens": [1], "given": OTHER, "expected": OTHER} | changes


def replayed(folder: Path, content: object, *options: str) -> Any:
    file = folder / "bundle.json"
    file.write_text(json.dumps(content))
    return CliRunner().invoke(cli, ["replay", str(file), "--backend", "numpy", *options])


def test_a_machine_that_agrees_with_the_pool_says_so(tmp_path: Path) -> None:
    """The rig delivered something else than this machine computes."""
    done = replayed(tmp_path, bundle())

    assert done.exit_code == 0, done.output
    assert "computes what the pool expects" in done.output
    assert right(ROWS[0]) in done.output
    facts = json.loads(replayed(tmp_path, bundle(), "--json").output)
    assert [row["computed"] for row in facts["rows"]] == [right(row) for row in ROWS]


def test_a_machine_that_agrees_with_the_rig_suggests_an_appeal(tmp_path: Path) -> None:
    """Status 3."""
    content = bundle()
    for row in content["rows"]:
        row["given"], row["expected"] = row["expected"], row["given"]
    done = replayed(tmp_path, content)

    assert done.exit_code == 3
    assert "appeal" in done.output


def test_a_machine_that_agrees_with_neither_is_doubted(tmp_path: Path) -> None:
    """Status 4; and so when it agrees now with one, now with the other."""
    content = bundle()
    row = content["rows"][0]
    row["given"], row["expected"] = row["expected"], row["given"]
    mixed = replayed(tmp_path, content)
    row["given"] = "cd" * 16
    strange = replayed(tmp_path, content)

    assert (mixed.exit_code, strange.exit_code) == (4, 4)
    assert "cannot be trusted" in strange.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version is 2"),
        ({"rows": []}, "rows is empty"),
        ({"model": "00" * 32}, "not the one that model names"),
        ({"rows": [one_row(tokens=[])]}, "tokens of row 0"),
        ({"rows": [one_row(given="xy")]}, "given of row 0"),
        ({"rows": 3}, "rows"),
        ({"manifest": "{}"}, "no replay bundle"),
    ],
)
def test_what_is_no_bundle_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """In one line, with what is wrong."""
    done = replayed(tmp_path, bundle(**changes))

    assert done.exit_code == 1
    assert words in done.output


def test_missing_files_of_the_model_are_named(tmp_path: Path) -> None:
    """And where they come from."""
    manifest = json.loads(TEXT) | {
        "files": [{"name": "weights.safetensors", "role": "engine", "size": 8, "sha256": "0" * 64}]
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    content = bundle(manifest=text, model=manifest_digest(text.encode()))
    done = replayed(tmp_path, content, "--cache", str(tmp_path))

    assert done.exit_code == 1
    assert "weights.safetensors is not at" in done.output
    assert "inferpool worker" in done.output

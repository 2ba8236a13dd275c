"""``inferpool replay``: whom this machine agrees with, in words and by the exit status."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from tiny_bert import write_tiny_bert

from gpu_worker.engine import load_engine, quantise
from pool.cli import cli
from shares.results import row_digests
from stratum.manifest import BLAKE2B, File, Manifest, encode_manifest, manifest_digest

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


@pytest.fixture(scope="module")
def in_floats(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, list[bytes]]:
    """A small model in a float numerics: its folder, its manifest, the results of the rows."""
    folder = tmp_path_factory.mktemp("floats")
    fields = quantise(
        write_tiny_bert(folder / "model", vocabulary=8_000), folder, numerics="float32"
    )
    weights = folder / "weights.safetensors"
    file = File(name=weights.name, size=weights.stat().st_size, sha256="ab" * 32)
    manifest = msgspec.convert({**fields, "files": [file]}, Manifest, from_attributes=True)
    engine = load_engine(json.loads(encode_manifest(manifest)), {weights.name: weights})
    lengths = np.array([len(row) for row in ROWS], np.uint32)
    (chunk,) = engine.run("embed", lengths, np.concatenate(ROWS).astype(np.uint32), len(ROWS))
    engine.close()
    return folder, manifest, [row.tobytes() for row in chunk.values]


@pytest.mark.parametrize(
    ("tolerances", "status", "said"),
    [
        (0.5, 3, "appeal"),
        (40.0, 0, "computes what the pool expects"),
        (4.0, 4, "agrees with neither"),
    ],
)
def test_in_a_float_numerics_it_goes_by_how_far_the_result_is(
    tmp_path: Path,
    in_floats: tuple[Path, Manifest, list[bytes]],
    tolerances: float,
    status: int,
    said: str,
) -> None:
    """No digest is equal to this machine's: within the tolerance is the rig's, far the pool's."""
    folder, manifest, results = in_floats
    text = encode_manifest(manifest)
    rows = []
    for number, (tokens, result) in enumerate(zip(ROWS, results, strict=True)):
        right = np.frombuffer(result, "<f4").astype(np.float64)
        way = np.roll(right, 1) - right * (right @ np.roll(right, 1))
        way *= np.sqrt(2 * tolerances * manifest.tolerance) / np.linalg.norm(way)
        given = (right + way).astype("<f4").tobytes()
        digest = row_digests(memoryview(given), len(given)).hex()
        encoded = b64encode(given).decode()
        rows.append(one_row(row=number, tokens=tokens, given=digest, result=encoded))
    facts = {"model": manifest_digest(text), "manifest": text.decode(), "operation": "embed"}
    done = replayed(tmp_path, bundle(rows=rows, **facts), "--model", str(folder))

    assert done.exit_code == status, done.output
    assert said in done.output
    short = [row | {"result": ""} for row in rows]
    done = replayed(tmp_path, bundle(rows=short, **facts), "--model", str(folder))
    assert "fetch the bundle again" in done.output

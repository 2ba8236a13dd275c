"""``inferpool replay``: compute rows again that a pool found wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from gpu_worker.commands.options import backend_option, threads_option
from gpu_worker.config import default_cache
from gpu_worker.engine import EngineError, load_engine
from pool.commands.common import echo_json, echo_table, json_option
from pool.comparisons import compare
from shares.replay import (
    AS_EXPECTED,
    AS_GIVEN,
    Bundle,
    BundleRow,
    agrees,
    agrees_nearly,
    read_bundle,
)
from shares.results import RowResult, row_digests
from stratum.manifest import Manifest, decode_manifest, manifest_digest

_WORDS = {
    AS_EXPECTED: "This machine computes what the pool expects. What the rig delivered was wrong: a "
    "flipped bit, another build or another model. Run `inferpool doctor` there, and replay the "
    "bundle on that machine with the backend that it uses.",
    AS_GIVEN: "This machine computes what the rig delivered, not what the pool expects. If no "
    "other machine agrees with the pool, appeal: the referee runs the rows again.",
}
_UNCLEAR = (
    "This machine agrees with neither on some rows. Run `inferpool doctor`: its own results cannot "
    "be trusted, or its model files are damaged."
)


@click.command(epilog="Example:  inferpool replay bundle.json --backend cupy")
@click.argument("bundle_file", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Where the rig keeps its models.  [default: $XDG_CACHE_HOME/inferpool or "
    "~/.cache/inferpool]",
)
@click.option(
    "--model",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with the model's files under the manifest's names, instead of the cache.",
)
@backend_option
@threads_option
@json_option
def replay(
    bundle_file: Path,
    cache: Path | None,
    folder: Path | None,
    backend: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compute the rows of a rejected share again, offline.

    BUNDLE is the answer of /api/v1/accounts/me/rejections/LEASE/bundle. For each row the digests
    are shown: expected by the pool, given by the rig, computed here. The exit status is 0 when
    this machine agrees with the pool, 3 when it agrees with the rig, 4 when with neither. In a
    float numerics it agrees with the rig within the model's tolerance, with the pool when what was
    given is far from what is computed here.
    """
    bundle, manifest = _read(bundle_file)
    paths = _paths(manifest, cache or default_cache(), folder)
    try:
        engine = load_engine(json.loads(bundle.manifest), paths, backend=backend, threads=threads)
        results = [_compute(engine, bundle.operation, row) for row in bundle.rows]
    except EngineError as error:
        raise click.ClickException(f"this machine cannot compute the rows: {error}") from None
    computed = [digest for digest, _ in results]
    found = [
        _agrees(manifest, bundle.operation, row, digest, result)
        for row, (digest, result) in zip(bundle.rows, results, strict=True)
    ]
    verdict = found[0] if len(set(found)) == 1 and found[0] in _WORDS else ""
    if as_json:
        echo_json(
            {
                "lease": bundle.lease,
                "agrees": verdict or "neither",
                "rows": [
                    {
                        "row": row.row,
                        "expected": row.expected,
                        "given": row.given,
                        "computed": digest.hex(),
                        "agrees": whom,
                    }
                    for row, digest, whom in zip(bundle.rows, computed, found, strict=True)
                ],
            }
        )
    else:
        click.echo(f"share {bundle.lease} of {bundle.user}, {bundle.operation}")
        echo_table(
            ["ROW", "EXPECTED", "GIVEN", "COMPUTED HERE"],
            [
                [row.row, row.expected, row.given, digest.hex()]
                for row, digest in zip(bundle.rows, computed, strict=True)
            ],
        )
        click.echo(_WORDS.get(verdict, _UNCLEAR))
    if verdict != AS_EXPECTED:
        raise click.exceptions.Exit(3 if verdict == AS_GIVEN else 4)


def _read(path: Path) -> tuple[Bundle, Manifest]:
    try:
        bundle = read_bundle(path.read_bytes())
        text = bundle.manifest.encode()
        manifest = decode_manifest(text)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path} is no replay bundle: {error}") from None
    if manifest_digest(text) != bundle.model:
        raise click.ClickException(f"{path}: the manifest is not the one that model names")
    return bundle, manifest


def _paths(manifest: Manifest, cache: Path, folder: Path | None) -> dict[str, Path]:
    """Where the model's files lie. Raises ``ClickException`` for one that is missing."""
    paths = {}
    for file in manifest.files:
        if file.role != "engine":
            continue
        path = folder / file.name if folder else cache / "files" / file.sha256
        if not path.is_file():
            raise click.ClickException(
                f"the model's file {file.name} is not at {path}: let a rig fetch the model "
                "(`inferpool worker`), name its --cache, or name a --model folder"
            )
        paths[file.name] = path
    return paths


def _agrees(
    manifest: Manifest, operation: str, row: BundleRow, digest: bytes, result: RowResult
) -> str:
    """Whom this machine agrees with; in a float numerics by how far it is from what was given."""
    if manifest.exact or digest.hex() in (row.expected, row.given):
        return agrees(row, digest)
    if len(row.result) != manifest.row_bytes:
        raise click.ClickException(
            f"result of row {row.row} has {len(row.result)} bytes, not {manifest.row_bytes}: "
            "fetch the bundle again"
        )
    given = RowResult(row.result, row.result == bytes(manifest.row_bytes))
    return agrees_nearly(compare(manifest, operation, given, result, referee=True))


def _compute(engine: Any, operation: str, row: BundleRow) -> tuple[bytes, RowResult]:
    lengths = np.array([len(row.tokens)], np.uint32)
    tokens = np.array(row.tokens, np.uint32)
    (chunk,) = engine.run(operation, lengths, tokens, 1)
    row_bytes = chunk.values.shape[1] * chunk.values.dtype.itemsize
    data = memoryview(chunk.values).cast("B")
    return row_digests(data, row_bytes, chunk.failed), RowResult(bytes(data), bool(chunk.failed))

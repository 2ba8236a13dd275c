"""One request of a customer, checked, and what reading it needs to know of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pool.batches.endpoints import OPERATIONS, endpoint_of
from pool.batches.ports import RegisteredModel
from shares.work import WorkShape

MAX_INPUTS = 2048

Text = str | tuple[str, str]  # one text, or a pair that the tokenizer joins


def characters(text: Text) -> int:
    """Characters of a text or a pair."""
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


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
    prompts: Mapping[str, str] = field(default_factory=dict)  # {name: text before an input}
    default_prompt: str | None = None

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
            prompts=manifest.prompts,
            default_prompt=manifest.default_prompt,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Rows to compute: texts, or token ids (one of the two is empty); and what the answer needs.

    ``top_n`` and ``documents`` belong to reranking: how many results, and the texts to give back.
    """

    texts: tuple[Text, ...] = ()
    ids: tuple[list[int], ...] = ()
    truncate: bool
    base64: bool = False
    top_n: int | None = None
    documents: tuple[str, ...] | None = None

    @property
    def characters(self) -> int:
        """Characters that the tokenizer will read."""
        return sum(map(characters, self.texts))


def wrong_endpoint(model: ServedModel, endpoint: str) -> str | None:
    """Why ``model`` is not for ``endpoint``, and what is; None when it is."""
    if OPERATIONS[endpoint] in model.operations:
        return None
    right = endpoint_of(model.operations)
    remedy = f": use {right}" if right else ""
    return f"the model {model.name!r} does not serve {endpoint}{remedy}"


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


def invalid(param: str, problem: str) -> Refusal:
    """The field ``param`` has a value that cannot be used."""
    return Refusal(f"{param}: {problem}", param, "invalid_value")

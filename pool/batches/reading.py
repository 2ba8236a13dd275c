"""Reading a request's body: its fields checked, its rows taken out as texts or token ids."""

from __future__ import annotations

from typing import Any

from pool.batches.endpoints import CLASSIFY, DIGESTS, EMBEDDINGS, OPERATIONS, RERANK, RERANK_V2
from pool.batches.requests import MAX_INPUTS, Refusal, Request, ServedModel, Text, invalid

# A rerank request names its query once and has it read for every document: a long query must
# not make a small request enormous.
MAX_PAIR_CHARACTERS = 8 << 20

_COMMON = frozenset({"model", "user", "truncate"})
_RERANK = _COMMON | {
    "query",
    "documents",
    "top_n",
    "return_documents",
    # What Cohere's clients may add.
    "rank_fields",
    "max_chunks_per_doc",
    "max_tokens_per_doc",
    "priority",
    "relevant_spans",
}
_PARAMETERS = {
    EMBEDDINGS: _COMMON | {"input", "encoding_format", "dimensions", "prompt_name"},
    DIGESTS: _COMMON | {"input"},
    RERANK: _RERANK,
    RERANK_V2: _RERANK,
    CLASSIFY: _COMMON | {"input"},
}
_PAIR = frozenset({"text", "text_pair"})
# Rerankers and classifiers cut unasked, as the libraries do that serve them elsewhere.
_CUTS_UNASKED = frozenset({"score", "classify"})


def read_request(body: dict[str, Any], endpoint: str, model: ServedModel) -> Request | Refusal:
    """Check a request's body and take its rows out. The model's name is not looked at."""
    for name in body:
        if name not in _PARAMETERS[endpoint]:
            return Refusal(
                f"unknown parameter {name[:80]!r}: leave it out", name, "unknown_parameter"
            )
    operation = OPERATIONS[endpoint]
    truncate = body.get("truncate", operation in _CUTS_UNASKED)
    if not isinstance(truncate, bool):
        return invalid("truncate", "must be true or false")
    if not isinstance(body.get("user", ""), str):
        return invalid("user", "must be a string")
    if operation == "score":
        return _rerank(body, truncate, model)
    if operation == "embed":
        return _embeddings(body, truncate, model)
    return _inputs(body.get("input"), truncate, model, pairs=operation == "classify")


# ── embeddings ───────────────────────────────────────────────────────────────


def _embeddings(body: dict[str, Any], truncate: bool, model: ServedModel) -> Request | Refusal:
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        return invalid("encoding_format", 'must be "float" or "base64"')
    dimensions = body.get("dimensions")
    if dimensions is not None and (dimensions is True or dimensions != model.width):
        return invalid(
            "dimensions", f"must be {model.width}, the width of {model.name}, or be left out"
        )
    prompt = _prompt(body, model)
    if isinstance(prompt, Refusal):
        return prompt
    request = _inputs(
        body.get("input"), truncate, model, prompt=prompt, base64=encoding == "base64"
    )
    if isinstance(request, Request) and request.ids and body.get("prompt_name") is not None:
        return invalid("prompt_name", "goes with texts only: token ids are computed as they are")
    return request


def _prompt(body: dict[str, Any], model: ServedModel) -> str | Refusal:
    """The text before every input; an explicit null is none at all."""
    name = body.get("prompt_name", model.default_prompt)
    if name is None:
        return ""
    if not isinstance(name, str) or name not in model.prompts:
        known = ", ".join(sorted(model.prompts)) or "none"
        what = repr(name[:80]) if isinstance(name, str) else "this"
        return invalid("prompt_name", f"{what} is no prompt of {model.name}, which has: {known}")
    return model.prompts[name]


# ── texts, pairs and token ids ───────────────────────────────────────────────


def _inputs(
    value: object,
    truncate: bool,
    model: ServedModel,
    *,
    prompt: str = "",
    base64: bool = False,
    pairs: bool = False,
) -> Request | Refusal:
    """The rows of ``input``. ``pairs``: objects with text and text_pair are texts too."""
    texts, ids = _rows(value, pairs=pairs)
    takes_text = model.tokenizer_path is not None
    if not texts and not ids:
        return _refused_input(value, takes_text=takes_text, pairs=pairs)
    count = len(texts) + len(ids)
    if count > MAX_INPUTS:
        return invalid("input", f"may hold at most {MAX_INPUTS} inputs, not {count}")
    if texts and not takes_text:
        return invalid("input", f"must be token ids: {model.name} takes no text")
    if prompt:
        texts = tuple(prompt + text for text in texts if isinstance(text, str))
    return Request(texts=texts, ids=ids, truncate=truncate, base64=base64)


def _rows(value: object, *, pairs: bool) -> tuple[tuple[Text, ...], tuple[list[int], ...]]:
    """Texts and token-id rows of ``input``; both empty when it has neither shape."""
    if isinstance(value, str | dict):
        value = [value]
    if not isinstance(value, list) or not value:
        return (), ()
    first = value[0]
    if type(first) is int:
        return ((), (value,)) if _all_ints(value) else ((), ())
    if isinstance(first, list):
        ok = all(type(item) is list and item and _all_ints(item) for item in value)
        return ((), tuple(value)) if ok else ((), ())
    texts: list[Text] = []
    for item in value:
        text = _text(item, pairs=pairs)
        if text is None:
            return (), ()
        texts.append(text)
    return tuple(texts), ()


def _text(item: object, *, pairs: bool) -> Text | None:
    """A text, or a pair if allowed; None when it is neither, or empty."""
    if isinstance(item, str):
        return item or None
    if not pairs or not isinstance(item, dict) or not _PAIR.issuperset(item):
        return None
    text, second = item.get("text"), item.get("text_pair")
    if not isinstance(text, str) or not text:
        return None
    if second is None:
        return text
    return (text, second) if isinstance(second, str) and second else None


def _all_ints(values: list[Any]) -> bool:
    return set(map(type, values)) == {int}


def _refused_input(value: object, *, takes_text: bool, pairs: bool) -> Refusal:
    shapes = "a list of token ids, or a list of such lists"
    if takes_text and pairs:
        shapes = "a string, an object with text and text_pair, a list of these, " + shapes
    elif takes_text:
        shapes = "a string, a list of strings, " + shapes
    if value in (None, "", []):
        return invalid("input", f"is empty: give {shapes}")
    return invalid("input", f"must be {shapes}, none of them empty")


# ── reranking ────────────────────────────────────────────────────────────────


def _rerank(body: dict[str, Any], truncate: bool, model: ServedModel) -> Request | Refusal:
    if model.tokenizer_path is None:
        return invalid("query", f"{model.name} has no tokenizer: it cannot take texts")
    query = body.get("query")
    if not isinstance(query, str) or not query:
        return invalid("query", "must be a text, not empty")
    documents = _documents(body.get("documents"))
    if isinstance(documents, Refusal):
        return documents
    top_n = body.get("top_n")
    if top_n is not None and (type(top_n) is not int or top_n < 1):
        return invalid("top_n", "must be a whole number from 1, or be left out for all documents")
    give_back = body.get("return_documents")
    if give_back is not None and not isinstance(give_back, bool):
        return invalid("return_documents", "must be true or false")
    refusal = _cohere_only(body, model)
    if refusal is not None:
        return refusal
    request = Request(
        texts=tuple((query, document) for document in documents),
        truncate=truncate,
        top_n=top_n,
        documents=documents if give_back else None,
    )
    if request.characters > MAX_PAIR_CHARACTERS:
        return invalid(
            "documents",
            f"with the query before each, they have more than {MAX_PAIR_CHARACTERS} characters: "
            "shorten the query, or split the documents over several requests",
        )
    return request


def _documents(value: object) -> tuple[str, ...] | Refusal:
    shape = 'must be a list of texts or of {"text": "…"}'
    if not isinstance(value, list) or not value:
        return invalid("documents", f"{shape}, at least one")
    if len(value) > MAX_INPUTS:
        return invalid("documents", f"may hold at most {MAX_INPUTS} texts, not {len(value)}")
    documents: list[str] = []
    for number, item in enumerate(value):
        text = item.get("text") if isinstance(item, dict) else item
        if not isinstance(text, str) or not text:
            return invalid("documents", f"{shape}, none empty: entry {number} is not")
        documents.append(text)
    return tuple(documents)


def _cohere_only(body: dict[str, Any], model: ServedModel) -> Refusal | None:
    """Fields of Cohere's clients that are fine while they ask for what we do anyway."""
    if body.get("rank_fields") not in (None, ["text"]):
        return invalid("rank_fields", 'must be ["text"]: other fields of a document are not read')
    chunks = body.get("max_chunks_per_doc")
    if chunks is not None and (type(chunks) is not int or chunks < 1):
        return invalid("max_chunks_per_doc", "must be a whole number from 1: a document is one")
    tokens = body.get("max_tokens_per_doc")
    if tokens is not None and (type(tokens) is not int or tokens < model.max_tokens):
        return invalid(
            "max_tokens_per_doc",
            f"must be at least {model.max_tokens}: query and document together are cut to that",
        )
    for name in ("priority", "relevant_spans"):
        if body.get(name):
            return invalid(name, "is not supported: leave it out")
    return None

"""Rows of token ids from requests: many texts go through the tokenizer at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from pool.batches.requests import Refusal, Request, ServedModel, check_ids, invalid, too_long


@lru_cache(maxsize=4)
def _tokenizer(path: Path, cut_at: int | None) -> Tokenizer:
    """The tokenizer without padding, and cutting only if asked.

    Special tokens are kept; of a pair the longer text is cut first.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    if cut_at is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(cut_at, strategy="longest_first")
    return tokenizer


def tokenize(requests: Sequence[Request], model: ServedModel) -> list[list[list[int]] | Refusal]:
    """Token ids of every row of every request, or why the request is refused."""
    whole = iter(_encode([r for r in requests if not r.truncate], model, cut=False))
    cut = iter(_encode([r for r in requests if r.truncate], model, cut=True))
    answers: list[list[list[int]] | Refusal] = []
    for request in requests:
        encodings = list(islice(cut if request.truncate else whole, len(request.texts)))
        answers.append(_rows(request, encodings, model))
    return answers


def _encode(requests: list[Request], model: ServedModel, *, cut: bool) -> list[Encoding]:
    texts = [text for request in requests for text in request.texts]
    if not texts:
        return []
    assert model.tokenizer_path is not None  # read_request refuses texts otherwise
    tokenizer = _tokenizer(model.tokenizer_path, model.max_tokens if cut else None)
    return tokenizer.encode_batch_fast(texts)


def _rows(
    request: Request, encodings: list[Encoding], model: ServedModel
) -> list[list[int]] | Refusal:
    rows: list[list[int]] = []
    for encoding in encodings:
        if len(encoding) > model.max_tokens:
            return too_long(len(encoding), model)
        if len(encoding) == 0:
            return invalid("input", "a text has no tokens")
        rows.append(encoding.ids)
    for ids in request.ids:
        checked = check_ids(ids, request, model)
        if isinstance(checked, Refusal):
            return checked
        rows.append(checked)
    return rows

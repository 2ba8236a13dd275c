"""Rows of token ids from requests: many texts go through the tokenizer at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from pool.batches.requests import (
    Refusal,
    Request,
    ServedModel,
    Text,
    characters,
    check_ids,
    invalid,
    too_long,
)

_PORTION = 1 << 20  # characters tokenised at a time: about 100 MiB while it lasts


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
    whole = _encode([r for r in requests if not r.truncate], model, cut=False)
    cut = _encode([r for r in requests if r.truncate], model, cut=True)
    answers: list[list[list[int]] | Refusal] = []
    for request in requests:
        rows = list(islice(cut if request.truncate else whole, len(request.texts)))
        answers.append(_checked(request, rows, model))
    return answers


def _encode(requests: list[Request], model: ServedModel, *, cut: bool) -> Iterator[list[int]]:
    texts = [text for request in requests for text in request.texts]
    if not texts:
        return
    assert model.tokenizer_path is not None  # read_request refuses texts otherwise
    tokenizer = _tokenizer(model.tokenizer_path, model.max_tokens if cut else None)
    for some in _portions(texts):
        yield from [encoding.ids for encoding in tokenizer.encode_batch_fast(some)]


def _portions(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """The texts in order, so many at a time that what the tokenizer makes of them stays small."""
    portion: list[Text] = []
    size = 0
    for text in texts:
        portion.append(text)
        size += characters(text)
        if size >= _PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _checked(
    request: Request, rows: list[list[int]], model: ServedModel
) -> list[list[int]] | Refusal:
    """The rows of a request, those given as token ids too."""
    for row in rows:
        if len(row) > model.max_tokens:
            return too_long(len(row), model)
        if not row:
            return invalid("input", "a text has no tokens")
    for ids in request.ids:
        checked = check_ids(ids, request, model)
        if isinstance(checked, Refusal):
            return checked
        rows.append(checked)
    return rows

"""Input files for intake, and a model small enough to follow by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from pool.batches.intake import IntakeJob, IntakeReport, take_in
from pool.batches.lines import Line, read_lines
from pool.batches.requests import ServedModel
from pool.store.blockfile import BlockFile
from shares.work import WorkShape

WORDS = 40
MAX_TOKENS = 8


def tiny_model(folder: Path) -> ServedModel:
    """``tiny``: words w4 to w39 between [CLS]=2 and [SEP]=3; its tokenizer.json cuts and pads."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(4, WORDS))]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return ServedModel(
        name="tiny",
        operations=("embed",),
        max_tokens=MAX_TOKENS,
        vocabulary=WORDS,
        width=4,
        row_bytes=16,
        shape=WorkShape(3_000_000, 0),
        tokenizer_path=path,
    )


BLAKE = ServedModel(
    name="blake2b",
    operations=("digest",),
    max_tokens=8192,
    vocabulary=1 << 32,
    width=32,
    row_bytes=32,
    shape=WorkShape(0, 0),
    tokenizer_path=None,
)


def all_models(folder: Path) -> dict[str, ServedModel]:
    """``tiny``, and of its kind: ``ask`` with prompts, ``ranker`` and ``mood``."""
    tiny = tiny_model(folder)
    others = (
        replace(
            tiny,
            name="ask",
            prompts={"query": "w30 ", "passage": "w31 w32 "},
            default_prompt="passage",
        ),
        replace(tiny, name="ranker", operations=("score",), width=1, row_bytes=4),
        replace(tiny, name="mood", operations=("classify",), width=3, row_bytes=12),
    )
    return {model.name: model for model in (tiny, BLAKE, *others)}


def line(number: int, given: object, url: str = "/v1/embeddings", **more: object) -> dict:
    """One request with an input."""
    model = "tiny" if url == "/v1/embeddings" else "blake2b"
    return body_line(number, {"model": model, "input": given, **more}, url)


def body_line(number: int, body: dict, url: str) -> dict:
    """One request."""
    return {"custom_id": f"c{number}", "method": "POST", "url": url, "body": body}


def run_intake(
    folder: Path,
    lines: list[dict] | bytes,
    *,
    endpoint: str = "/v1/embeddings",
    max_lines: int = 100_000,
    max_line_bytes: int = 8 << 20,
) -> IntakeReport:
    """Take a file in, in this process."""
    source = folder / "input.jsonl"
    if isinstance(lines, bytes):
        source.write_bytes(lines)
    else:
        source.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in lines))
    out = folder / "out"
    out.mkdir()
    return take_in(
        IntakeJob(
            input_path=source,
            folder=out,
            endpoint=endpoint,
            models=all_models(folder),
            max_lines=max_lines,
            max_line_bytes=max_line_bytes,
        )
    )


def lines_of(report: IntakeReport) -> list[Line]:
    """What was written on every line."""
    assert report.errors == ()
    assert report.lines_path is not None
    return list(read_lines(report.lines_path))


def rows_of(report: IntakeReport) -> list[list[int]]:
    """Every row's tokens, in the customer's order."""
    rows: list[list[int]] = []
    for packed in report.blocks:
        with BlockFile(packed.path) as block:
            own: list[list[int]] = [[] for _ in range(block.rows)]
            for row in range(block.rows):
                own[block.order[row]] = block.take(row, row + 1)[1].tolist()
            rows += own
    return rows

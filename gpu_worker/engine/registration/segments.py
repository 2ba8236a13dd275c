"""Where the second text of a pair begins, as the model's tokenizer marks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.registration.settings import (
    Settings,
    read_optional,
    read_settings,
)

_PAIR: Final = "marks the tokens of a pair in a way that is not supported"


def read_separator(folder: Path) -> int:
    """The token after which everything is of type 1, or -1 where all tokens are of type 0.

    Reads the post-processor of ``tokenizer.json``. Raises ``EngineError`` where a pair's types
    do not change exactly once, after the first separator.
    """
    if not _gives_types(read_optional(folder / "tokenizer_config.json")):
        return -1
    settings = read_settings(folder / "tokenizer.json")
    steps = _steps(settings.get("post_processor"))
    for step in reversed(steps):
        if step.get("type") == "BertProcessing":
            return _token(settings, step["sep"][1])
        if step.get("type") == "TemplateProcessing":
            return _separator(settings, step)
    return -1


def _gives_types(config: Settings) -> bool:
    """Whether transformers hands the tokenizer's types to the model; without them all are 0."""
    names = config.get("model_input_names")
    if names is None:
        # The class that transformers 5 saves for a tokenizer of no model's own gives none.
        return bool(config.get("tokenizer_class") != "TokenizersBackend")
    return "token_type_ids" in names


def _steps(processor: Any) -> list[dict[str, Any]]:
    if processor is None:
        return []
    if processor.get("type") == "Sequence":
        return [step for inner in processor["processors"] for step in _steps(inner)]
    return [processor]


def _separator(settings: Settings, template: dict[str, Any]) -> int:
    """The special token behind the first text, if types change right after it."""
    pieces = [next(iter(piece.items())) for piece in template["pair"]]
    kinds = [int(what["type_id"]) for _, what in pieces]
    if not any(kinds):
        return -1
    change = kinds.index(1)
    before = pieces[change - 1][1]["id"] if change else None
    tokens = template["special_tokens"].get(before, {}).get("ids", [])
    earlier = [what["id"] for kind, what in pieces[: change - 1] if kind == "SpecialToken"]
    if kinds != sorted(kinds) or max(kinds) > 1 or len(tokens) != 1 or before in earlier:
        raise EngineError(
            f"{settings.path.name} {_PAIR}: its types must be 0 up to and including one separator "
            "and 1 behind it"
        )
    return _token(settings, tokens[0])


def _token(settings: Settings, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise EngineError(f"{settings.path.name} {_PAIR}: its separator is {value!r}")
    return value

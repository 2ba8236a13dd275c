"""What config.json says about the logits of a classifier."""

from __future__ import annotations

from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.registration.settings import Settings

_PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")


def read_labels(config: Settings) -> tuple[str, ...]:
    """The names of the logits, in order. transformers leaves two nameless ones out."""
    named = config.table("id2label")
    if not named:
        count = config.integer("num_labels", 2)
        return tuple(f"LABEL_{index}" for index in range(count))
    try:
        labels = {int(index): str(name) for index, name in named.items()}
    except ValueError as error:
        raise EngineError("config.json's id2label must name labels by their index") from error
    if sorted(labels) != list(range(len(labels))):
        raise EngineError("config.json's id2label must name the labels from 0 on, each once")
    return tuple(labels[index] for index in range(len(labels)))


def read_probability(config: Settings, labels: int) -> str:
    """``sigmoid`` for one logit or independent labels, ``softmax`` where one label holds."""
    problem = config.choice("problem_type", _PROBLEMS[0], _PROBLEMS)
    if labels > 1 and problem == "regression":
        raise EngineError(
            f"config.json's problem_type regression with {labels} labels is not supported; "
            "supported: one value, or single_label_classification, multi_label_classification"
        )
    return "sigmoid" if labels == 1 or problem == "multi_label_classification" else "softmax"

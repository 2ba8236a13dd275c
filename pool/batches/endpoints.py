"""The routes that compute something, and what a model's manifest says about their answers."""

from __future__ import annotations

from typing import Literal

from stratum.manifest import Manifest

EMBEDDINGS = "/v1/embeddings"
DIGESTS = "/v1/digests"
RERANK = "/v1/rerank"
RERANK_V2 = "/v2/rerank"  # the same, under the path of Cohere's second API
CLASSIFY = "/v1/classify"

OPERATIONS = {
    EMBEDDINGS: "embed",
    DIGESTS: "digest",
    RERANK: "score",
    RERANK_V2: "score",
    CLASSIFY: "classify",
}

Probability = Literal["sigmoid", "softmax"]


def endpoint_of(operations: tuple[str, ...]) -> str | None:
    """The route for a model with these operations; None when no route serves any of them."""
    return next((path for path, what in OPERATIONS.items() if what in operations), None)


def labels_of(manifest: Manifest) -> tuple[str, ...]:
    """What the values of a ``classify`` result are called; empty for other models."""
    if "classify" not in manifest.operations:
        return ()
    return manifest.labels or tuple(f"LABEL_{number}" for number in range(manifest.width))


def probability_of(manifest: Manifest) -> Probability | None:
    """How the logits of a ``score`` or ``classify`` result become probabilities.

    None for a model whose results are no logits. A manifest that does not say means what is usual:
    one logit alone through the sigmoid, several through softmax. Raises ``ValueError`` for a word
    that is neither.
    """
    if not {"score", "classify"}.intersection(manifest.operations):
        return None
    usual = "sigmoid" if manifest.width == 1 else "softmax"
    word = manifest.config.get("probability", usual)
    if word == "sigmoid":
        return "sigmoid"
    if word == "softmax":
        return "softmax"
    raise ValueError(f"probability {word!r} of the manifest must be sigmoid or softmax")

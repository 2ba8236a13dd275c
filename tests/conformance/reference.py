"""The same models in transformers and sentence-transformers: what ours are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
from zoo import SEPARATOR, Model, fill, settings_of

F64 = NDArray[np.float64]


def save_model(folder: Path, model: Model, seed: int, **how: Any) -> Any:
    """Make the model with the weights that ``zoo.fill`` gives, and save it as transformers does.

    ``how`` goes to ``save_pretrained``. Returns the model, in float64.
    """
    kind = AutoModelForSequenceClassification if model.labels else AutoModel
    config = AutoConfig.for_model(model.family, **settings_of(model, seed))
    made = kind.from_config(config).eval()
    state = {
        name: torch.from_numpy(fill(name, tensor.shape, seed))
        for name, tensor in made.state_dict().items()
    }
    made.load_state_dict(state)
    made.save_pretrained(folder, **how)
    return made.double()


@torch.no_grad()
def compute(made: Any, rows: Sequence[Sequence[int]], pooling: str, normalise: bool) -> F64:
    """Each row by itself: its pooled vector, or its logits where ``pooling`` is ``head``."""
    results = []
    for row in rows:
        tokens = torch.tensor([row])
        given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        if pooling == "head":
            if made.config.model_type == "bert":
                given["token_type_ids"] = _types(row)
            results.append(made(**given).logits[0].numpy())
            continue
        features = {**given, "token_embeddings": made(**given).last_hidden_state}
        vector = Pooling(features["token_embeddings"].shape[2], pooling).forward(features)
        if normalise:
            vector = Normalize().forward(vector)
        results.append(vector["sentence_embedding"][0].numpy())
    return np.stack(results)


def _types(row: Sequence[int]) -> torch.Tensor:
    """What a tokenizer says of a pair: 1 behind the first separator."""
    first = row.index(SEPARATOR) if SEPARATOR in row else len(row)
    return torch.tensor([[int(place > first) for place in range(len(row))]])

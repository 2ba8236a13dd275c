"""The supported families, by the name that config.json gives them."""

from __future__ import annotations

from typing import Final

from gpu_worker.engine.registration.bert import Bert, Roberta
from gpu_worker.engine.registration.distilbert import DistilBert
from gpu_worker.engine.registration.family import Family
from gpu_worker.engine.registration.modernbert import ModernBert
from gpu_worker.engine.registration.settings import Settings

FAMILIES: Final[dict[str, Family]] = {
    "bert": Bert(),
    "roberta": Roberta(),
    "xlm-roberta": Roberta(),
    "distilbert": DistilBert(),
    "modernbert": ModernBert(),
}
"""{model_type: family}"""


def find_family(config: Settings) -> Family:
    """The family of a checkpoint; ``EngineError`` lists those that are supported."""
    kind: str = config.choice("model_type", None, tuple(FAMILIES))
    config.refuse("auto_map", "the model brings code of its own, which is not run")
    config.refuse("quantization_config", "register the model from its unquantised weights")
    return FAMILIES[kind]

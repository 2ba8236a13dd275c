"""What a model's folder says beside its weights: its use, pooling, prompts, longest row.

The layouts are those of sentence-transformers (embedders and cross-encoders, old and new) and of
plain Hugging Face checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gpu_worker.engine.encoderconfig import POOLINGS
from gpu_worker.engine.errors import EngineError
from gpu_worker.engine.registration.settings import (
    Settings,
    read_json,
    read_optional,
    read_settings,
)

CLASSIFIER: Final = "ForSequenceClassification"
EMBEDDERS: Final = ("Model", "ForMaskedLM", "ForPreTraining")
"""How the names of architectures end whose encoder alone is taken."""
_MODULES: Final = ("Transformer", "Pooling", "Normalize")
_LEGACY_MODES: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TRANSFORMER_CONFIGS: Final = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_distilbert_config.json",
)


@dataclass(frozen=True, slots=True)
class Folder:
    """``transformer`` is where config.json, the weights and the tokenizer lie."""

    transformer: Path
    config: Settings
    classifier: bool
    pooling: str = "mean"
    """Of an embedder; a classifier's is its architecture's."""
    normalise: bool = False
    max_tokens: int | None = None
    """What the folder allows, if it says so."""
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def read_folder(folder: Path) -> Folder:
    """Read everything but the tensors; ``EngineError`` names what is not supported."""
    modules = folder / "modules.json"
    if modules.exists():
        kinds, paths = _read_modules(modules)
        transformer = paths[0]
        task = _read_task(transformer, len(kinds))
        classifier = task == "sequence-classification"
    else:
        kinds, paths, transformer = (), [folder, folder / "1_Pooling"], folder
        classifier = False
    config = read_settings(transformer / "config.json")
    if not modules.exists():
        classifier = _is_classifier(config)
    embedder = not classifier and (bool(kinds) or paths[1].is_dir())
    prompts, default_prompt = _read_prompts(folder, classifier)
    return Folder(
        transformer=transformer,
        config=config,
        classifier=classifier,
        pooling=_read_pooling(paths[1]) if embedder else "mean",
        normalise="Normalize" in kinds and _check_normalise(paths[2]),
        max_tokens=_read_max_tokens(folder, transformer),
        prompts=prompts,
        default_prompt=default_prompt,
    )


def _read_modules(path: Path) -> tuple[tuple[str, ...], list[Path]]:
    """The kinds of the modules and their folders, in order."""
    try:
        modules = [
            (str(module["type"]).rsplit(".", 1)[-1], path.parent / str(module["path"]))
            for module in read_json(path)
        ]
    except (KeyError, TypeError) as error:
        raise EngineError(f"{path} is not a list of modules with type and path") from error
    kinds = tuple(kind for kind, _ in modules)
    for kind in kinds:
        if kind not in _MODULES:
            raise EngineError(
                f"module {kind} of {path} is not supported; supported: {', '.join(_MODULES)}"
            )
    if kinds not in (_MODULES[:1], _MODULES[:2], _MODULES):
        raise EngineError(
            f"{path} lists {', '.join(kinds) or 'nothing'}; supported: Transformer, Pooling, and "
            "Normalize or nothing, in this order; or a cross-encoder's Transformer alone"
        )
    return kinds, [place for _, place in modules]


def _read_task(transformer: Path, modules: int) -> str:
    settings = _transformer_settings(transformer)
    settings.refuse("processing_kwargs", "the pool tokenises texts by tokenizer.json alone")
    if settings.get("do_lower_case") and not _lowers(transformer):
        raise EngineError(
            f"{settings.path.name} sets do_lower_case, and tokenizer.json does not lower texts; "
            "save the model again with a tokenizer that does"
        )
    task: str = settings.choice(
        "transformer_task", "feature-extraction", ("feature-extraction", "sequence-classification")
    )
    if (modules == 1) != (task == "sequence-classification"):
        raise EngineError(
            f"modules.json lists {modules} modules for the task {task}; supported: Transformer, "
            "Pooling, and Normalize or nothing, for feature-extraction (an embedder); "
            "Transformer alone for sequence-classification (a cross-encoder or classifier)"
        )
    output = "logits" if task == "sequence-classification" else "last_hidden_state"
    for kind, how in settings.table("modality_config").items():
        if kind == "text" and how != {"method": "forward", "method_output_name": output}:
            raise EngineError(
                f"{settings.path.name}'s modality_config takes {how} of texts; supported: {output}"
                " of forward"
            )
    return task


def _transformer_settings(folder: Path) -> Settings:
    found = [folder / name for name in _TRANSFORMER_CONFIGS if (folder / name).exists()]
    return read_optional(found[0] if found else folder / _TRANSFORMER_CONFIGS[0])


def _lowers(folder: Path) -> bool:
    """Whether the tokenizer makes lower case of a text."""
    normalizer = read_optional(folder / "tokenizer.json").get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    return any(step.get("lowercase") or step.get("type") == "Lowercase" for step in steps)


def _is_classifier(config: Settings) -> bool:
    """Whether a plain checkpoint has a classification head, by its architecture's name."""
    for architecture in config.get("architectures") or ():
        if str(architecture).endswith(CLASSIFIER):
            return True
        if not str(architecture).endswith(EMBEDDERS):
            raise EngineError(
                f"config.json's architectures names {architecture}, which is not supported; "
                f"supported: …{CLASSIFIER}, and for embeddings …{', …'.join(EMBEDDERS)}"
            )
    return False


def _read_pooling(folder: Path) -> str:
    settings = read_settings(folder / "config.json")
    if settings.get("include_prompt") is False:
        raise EngineError(
            f"{settings.path} has include_prompt false, which is not supported: pooling takes "
            "every token of a row"
        )
    named = settings.get("pooling_mode")
    modes = [named] if isinstance(named, str) else list(named or ())
    legacy = [name for name in settings.names() if name.startswith("pooling_mode_")]
    if not modes:
        modes = [_LEGACY_MODES.get(name, name) for name in legacy if settings.get(name) is True]
    if not modes and not legacy:
        return "mean"  # sentence-transformers' own default
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise EngineError(
            f"pooling {'+'.join(sorted(map(str, modes))) or 'none'} of {settings.path} is not "
            f"supported; supported: {', '.join(POOLINGS)}"
        )
    return str(modes[0])


def _check_normalise(folder: Path) -> bool:
    settings = read_optional(folder / "config.json")
    for name in ("module_input_name", "module_output_name"):
        settings.choice(name, "sentence_embedding", ("sentence_embedding",))
    return True


def _read_max_tokens(folder: Path, transformer: Path) -> int | None:
    """The longest row: what sentence-transformers says, or else the tokenizer."""
    for place in (transformer, folder):
        settings = _transformer_settings(place)
        if settings.get("max_seq_length") is not None:
            return settings.integer("max_seq_length")
    tokenizer = read_optional(transformer / "tokenizer_config.json")
    longest = tokenizer.get("model_max_length")
    # transformers writes 10^30 for "no limit", sometimes as a float.
    return int(longest) if isinstance(longest, int | float) and longest >= 1 else None


def _read_prompts(folder: Path, classifier: bool) -> tuple[dict[str, str], str | None]:
    """{name: text that goes before an input}, and the name of the one that is used unasked."""
    settings = read_optional(folder / "config_sentence_transformers.json")
    prompts = settings.table("prompts")
    default = settings.get("default_prompt_name")
    if not all(isinstance(text, str) for text in prompts.values()):
        raise EngineError(f"{settings.path.name}'s prompts must be texts by name")
    if default is not None and default not in prompts:
        raise EngineError(
            f"{settings.path.name}'s default_prompt_name {default!r} is not among its prompts: "
            + (", ".join(prompts) or "none")
        )
    if not any(prompts.values()):
        return {}, None  # sentence-transformers writes empty prompts where a model has none
    if classifier:
        raise EngineError(
            f"{settings.path.name} has prompts, which are supported for embedders only"
        )
    return prompts, default

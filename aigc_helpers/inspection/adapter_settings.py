"""What ``adapter_config.json``, diffusers' ``lora_adapter_metadata`` and GGUF say of each layer, as PEFT resolves it.

One place answers for everybody: the report, the converter, the loader and the merge. If each of them had a rule of its
own, one file would come out at two strengths.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from aigc_helpers.bounded_json import parse_json, texts_in
from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.formats import GGUF, quoted
from aigc_helpers.inspection.adapter_keys import PIPELINE_COMPONENTS
from aigc_helpers.inspection.contents import Contents
from aigc_helpers.inspection.patterns import first_matches, is_plain

ADAPTER_METADATA = "lora_adapter_metadata"  # diffusers' key in a file's header.
LARGEST_METADATA = 2_000_000  # Characters; the settings of a thousand layers, each named three times, take 300,000.
GGUF_ALPHA = "adapter.lora.alpha"  # llama.cpp's, one for all layers; the strength is alpha / rank of each.
# peft.LoraConfig's own, for a setting that the file leaves out.
DEFAULT_RANK = DEFAULT_ALPHA = 8
_LARGEST_ALPHA = 1e9  # Trainings have one within some hundred times the rank.
_LAYER = r"(.*\.)?({})$"  # How PEFT looks up rank_pattern and alpha_pattern (peft.utils.other.get_pattern_key).

# The first number between dots: that of the block (peft.tuners.tuners_utils.check_target_module_exists).
_NUMBERED = re.compile(r".*?\.[^.]*\.(?P<number>\d+)\.")

# Ways to begin the training that leave the base's weights alone: what was trained is all that is added.
_PLAIN_BEGINNINGS = ("gaussian", "eva", "orthogonal", "mica")
_EXACT_BEGINNINGS = ("pissa", "olora")  # Found again to the bit from the same base.
_OTHER_BEGINNINGS = ("pissa_niter", "corda", "loftq", "lora_ga")


# The heads that PEFT's classes for these tasks train and save with the adapter.
_HEADS_OF = {"SEQ_CLS": ("classifier", "score"), "TOKEN_CLS": ("classifier", "score"), "QUESTION_ANS": ("qa_outputs",)}
_TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}
HEADS = tuple(dict.fromkeys(name for names in _HEADS_OF.values() for name in names))


class RankAndAlpha(NamedTuple):
    """What the settings give to one layer.

    Attributes:
        rank: rows of its first matrix.
        alpha: its strength is alpha / rank; a rank-stabilised LoRA's (alpha / √rank, Kalajdzievski 2023) is turned into
            the plain one of equal strength.
    """

    rank: int
    alpha: float


def settings_of(contents: Contents, component: str) -> Mapping[str, Any]:
    """Return the settings for one component of a pipeline (``""`` for a model of its own); empty if there are none.

    Raises:
        ReaderError: they stand in the header and are no JSON object, or a far too long one.

    Example:
        >>> from aigc_helpers import install
        >>> from aigc_helpers.inspection import read_contents
        >>> settings = settings_of(read_contents(install("tune-adapter")), "")
        >>> settings["r"], settings["lora_alpha"]
        (8, 16)
    """
    contents = contents.part(component)
    if contents.container == GGUF and GGUF_ALPHA in contents.metadata:
        return {"lora_alpha": _number(contents.metadata[GGUF_ALPHA])}
    if contents.adapter_config:
        return contents.adapter_config
    text = contents.metadata.get(ADAPTER_METADATA, "{}")
    if len(text) > LARGEST_METADATA:
        raise ReaderError(
            f"{contents.path}: the settings in its header ({ADAPTER_METADATA}) take {len(text):,} characters, more "
            f"than those of any LoRA ({LARGEST_METADATA:,} at most). Tell its author."
        )
    try:
        settings = parse_json(text)
    except ValueError as error:
        raise ReaderError(
            f"{contents.path}: the settings in its header ({ADAPTER_METADATA}) are no JSON ({first_line(error)}), and "
            "the alphas stand there. Download the file again, or tell its author."
        ) from error
    if not isinstance(settings, dict):
        raise ReaderError(
            f"{contents.path}: the settings in its header ({ADAPTER_METADATA}) are no JSON object, and the alphas "
            "stand there. Tell its author."
        )
    # save_lora_weights puts the component before each setting, save_lora_adapter does not.
    if any(key.partition(".")[0] in PIPELINE_COMPONENTS for key in settings):
        prefix = f"{component}."
        return {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
    return settings


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def strengths(settings: Mapping[str, Any], names: Sequence[str], source: object) -> dict[str, RankAndAlpha]:
    """Return the rank and the alpha of each layer, exactly as the installed PEFT would set them.

    Args:
        settings: of ``settings_of``. Without any there is nothing to say, and nothing is returned.
        names: of the layers, as PEFT names them.
        source: the file, for the message.

    Raises:
        ReaderError: a rank or an alpha is no number, or a pattern cannot be matched.

    Example:
        >>> strengths({"r": 4, "lora_alpha": 8, "alpha_pattern": {"^proj_out": 2}}, ["proj_out", "b.0.proj_out"], "")
        {'proj_out': RankAndAlpha(rank=4, alpha=2.0), 'b.0.proj_out': RankAndAlpha(rank=4, alpha=8.0)}
    """
    if not settings:
        return {}
    ranks = _looked_up(settings, "rank_pattern", settings.get("r", DEFAULT_RANK), names, source)
    alphas = _looked_up(settings, "alpha_pattern", settings.get("lora_alpha", DEFAULT_ALPHA), names, source)
    found = {}
    for name, rank, alpha in zip(names, ranks, alphas, strict=True):
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 < rank < 2**31:
            raise ReaderError(
                f"{source} says that a rank is {quoted(rank)}: it must be a whole number above 0. Mend it."
            )
        if not is_alpha(alpha):
            raise ReaderError(
                f"{source} says that alpha is {quoted(alpha)}, which is no number, or one that no training has. Mend "
                "it or train again."
            )
        found[name] = RankAndAlpha(rank, float(alpha) * rank**0.5 if settings.get("use_rslora") else float(alpha))
    return found


def is_alpha(value: object) -> TypeGuard[float]:
    """Say whether a value is a number, neither NaN nor so large that what it multiplies would become infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_ALPHA


def changes_base(initial: object) -> bool:
    """Return whether a training that begins so (``init_lora_weights``) changes the base's weights, or may do so.

    Example:
        >>> changes_base(True), changes_base("gaussian"), changes_base("pissa")
        (False, False, True)
    """
    return not (initial is None or isinstance(initial, bool) or initial in _PLAIN_BEGINNINGS)


def initialisation_fault(settings: Mapping[str, Any], source: object) -> str | None:
    """Return why the matrices alone do not say what was trained, in a sentence with the way out; None if they do.

    PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take a part out of the base's own weights before the training and put it into
    the matrices. On the base as it was, the matrices add that part a second time.

    Args:
        settings: of ``settings_of``.
        source: the file, for the message.

    Example:
        >>> print(initialisation_fault({"init_lora_weights": "pissa"}, "my_adapter"))
        my_adapter was begun with 'pissa' (init_lora_weights), which took a part out of the base's weights ...
        >>> print(initialisation_fault({"init_lora_weights": True}, "my_adapter"))
        None
    """
    initial = settings.get("init_lora_weights")
    if not changes_base(initial):
        return None
    name = str(initial).lower()
    if name in _EXACT_BEGINNINGS:
        return (
            f"{source} was begun with {quoted(initial)} (init_lora_weights), which took a part out of the base's "
            "weights and put it into the matrices: on the base as it is, that part would count twice. "
            "peft.PeftModel.from_pretrained(model, folder) computes the same part again and loads it rightly; its "
            "merge_and_unload() then gives a whole model that can be saved."
        )
    if name.startswith(_OTHER_BEGINNINGS):
        return (
            f"{source} was begun with {quoted(initial)} (init_lora_weights), which changed the base's weights, and how "
            "cannot be computed again from the file. Ask its author for a plain LoRA: PEFT's save_pretrained writes "
            "one if it is given path_initial_model_for_weight_conversion. Or ask for the base as it was when the "
            "training began."
        )
    return (
        f"{source} was begun in a way that is not known here, {quoted(initial)} (init_lora_weights), and it may have "
        "changed the base's weights. Load it with the version of PEFT that it was trained with."
    )


def missing_head(settings: Mapping[str, Any], saved_modules: Collection[str], source: object) -> str | None:
    """Return, in a sentence, that a classifier's adapter lacks the head; None if it has what it needs.

    Args:
        settings: of ``settings_of``.
        saved_modules: names of the tensors that are no LoRA's.
        source: the file, for the message.

    Example:
        >>> print(missing_head({"task_type": "SEQ_CLS"}, [], "my_adapter"))
        my_adapter was trained for SEQ_CLS and lacks the head that was trained with it (classifier or score): ...
        >>> print(missing_head({"task_type": "SEQ_CLS"}, ["base_model.model.classifier.weight"], "my_adapter"))
        None
    """
    task = settings.get("task_type") or _task_of_class(settings)
    heads = _HEADS_OF.get(task) if isinstance(task, str) else None
    if not heads:
        return None
    names = (*heads, *texts_in(settings.get("modules_to_save")))
    if any(name in layer.split(".") for layer in saved_modules for name in names):
        return None
    return (
        f"{source} was trained for {task} and lacks the head that was trained with it ({' or '.join(heads)}): the "
        "model's own head would stay, and a new model's is random. Ask for the file as PEFT's save_pretrained wrote "
        "it; it holds the head."
    )


def _task_of_class(settings: Mapping[str, Any]) -> str | None:
    """Return the task of the class that PEFT noted down where the training named no task."""
    mapping = settings.get("auto_mapping")
    name = str(mapping.get("base_model_class")) if isinstance(mapping, dict) else ""
    return next((task for ending, task in _TASKS.items() if name.endswith(ending)), None)


def names_known_library(settings: Mapping[str, Any]) -> bool:
    """Say whether ``auto_mapping`` leads into a library that is there anyway, so that no code of the author's runs.

    Example:
        >>> names_known_library({"auto_mapping": {"parent_library": "transformers.models.bert.modeling_bert"}})
        True
        >>> names_known_library({"auto_mapping": {"parent_library": "somebody.s_module"}})
        False
    """
    mapping = settings.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else None
    return isinstance(library, str) and library.startswith(("transformers.models.", "diffusers.models."))


def targeted(settings: Mapping[str, Any], names: Sequence[str], source: object) -> set[str]:
    """Return the layers that the settings say were trained, as PEFT's ``check_target_module_exists`` chooses them.

    Args:
        settings: of ``settings_of``.
        names: of layers of a model.
        source: the file, for the message.

    Raises:
        ReaderError: a pattern cannot be matched.

    Example:
        >>> targeted({"target_modules": ["query"]}, ["layer.0.query", "layer.0.key"], "my_adapter")
        {'layer.0.query'}
    """
    targets = settings.get("target_modules")
    if isinstance(targets, str) and targets != "all-linear":
        found = first_matches([targets], names, source, whole=True)
        chosen = [name for name, number in zip(names, found, strict=True) if number is not None]
    elif isinstance(targets, (list, tuple)):
        chosen = _at_layers(settings, _ending_with(targets, names), targets)
    else:
        return set()
    excluded = settings.get("exclude_modules")
    if isinstance(excluded, str):
        found = first_matches([excluded], chosen, source, whole=True)
        chosen = [name for name, number in zip(chosen, found, strict=True) if number is None]
    elif isinstance(excluded, list):
        left_out = set(_ending_with(excluded, chosen))
        chosen = [name for name in chosen if name not in left_out]
    kept = texts_in(settings.get("modules_to_save"))
    found = first_matches(kept, chosen, source, r"(^|.*\.){}($|\..*)")
    return {name for name, number in zip(chosen, found, strict=True) if number is None}


def _at_layers(settings: Mapping[str, Any], names: list[str], targets: Collection[str]) -> list[str]:
    """Keep the layers in the blocks that ``layers_to_transform`` numbers; a layer that is named in full stays."""
    numbers = settings.get("layers_to_transform")
    numbers = [numbers] if isinstance(numbers, int) else numbers
    if not numbers or not isinstance(numbers, list):
        return names
    patterns = settings.get("layers_pattern") or []
    patterns = [patterns] if isinstance(patterns, str) else texts_in(patterns)
    if not all(map(is_plain, patterns)):
        return []  # Its groups would have to be read in the child process; to know less than PEFT is no fault here.
    forms = [re.compile(rf"(?:^|.*?\.){pattern}\.(?P<number>\d+)\.") for pattern in patterns] or [_NUMBERED]
    kept = []
    for name in names:
        match = next(filter(None, (form.match(name) for form in forms)), None)
        if name in targets or (match and int(match["number"]) in numbers):
            kept.append(name)
    return kept


def _ending_with(ends: Collection[str], names: Sequence[str]) -> list[str]:
    """Return the names that are one of ``ends``, or end with a dot and one of them."""
    dotted = tuple(f".{end}" for end in ends if isinstance(end, str))
    return [name for name in names if f".{name}".endswith(dotted)]


def _looked_up(
    settings: Mapping[str, Any], key: str, default: object, names: Sequence[str], source: object
) -> list[object]:
    """Return each layer's value under ``rank_pattern`` or ``alpha_pattern``: that of the first pattern to match."""
    patterns = settings.get(key) or {}
    if not isinstance(patterns, dict):
        raise ReaderError(f"{source} says that {key} is {quoted(patterns)}; it must be an object of names and numbers.")
    values = list(patterns.values())
    found = first_matches(list(patterns), names, source, _LAYER)
    # A name that is no match of itself, such as one with a +, PEFT finds by the letter after all.
    return [
        patterns.get(name, default) if number is None else values[number]
        for name, number in zip(names, found, strict=True)
    ]

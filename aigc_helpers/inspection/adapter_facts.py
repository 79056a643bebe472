"""What an adapter's matrices and settings say: kind, ranks, alphas, the layers it changes, and what needs care."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from aigc_helpers.errors import ReaderError, first_few
from aigc_helpers.formats import quoted
from aigc_helpers.inspection.adapter_keys import KOHYA, LLAMA_CPP, PEFT, Adapter, AdapterModule
from aigc_helpers.inspection.adapter_parts import read_alphas
from aigc_helpers.inspection.adapter_settings import (
    RankAndAlpha,
    initialisation_fault,
    missing_head,
    names_known_library,
    settings_of,
    strengths,
)
from aigc_helpers.inspection.contents import ADAPTER_CONFIG, Contents
from aigc_helpers.inspection.training_metadata import printable
from aigc_helpers.terminal import visible

_KINDS = {"LoRA": "LoRA", "DoRA": "DoRA", "LoHa": "LyCORIS LoHa", "LoKr": "LyCORIS LoKr"}
_KINDS |= {"OFT": "OFT (orthogonal, no LoRA)", "GLoRA": "LyCORIS GLoRA", "full difference": "LyCORIS full difference"}
_COMPONENTS = {"unet": "UNet ", "text_encoder": "text encoder ", "text_encoder_2": "second text encoder ", "": ""}
_COMPONENTS |= {"text_encoder_3": "third text encoder "}
# Why matrices have the shape [0] (peft#1328), and what helps.
EMPTY_MATRICES = (
    "So DeepSpeed's ZeRO-3 saves what is split among processes and was not gathered: the trained numbers are not in "
    "the file. They may stand in the training's own checkpoint, from which its zero_to_fp32.py makes whole ones; or "
    "train with stage3_gather_16bit_weights_on_model_save."
)
_MOST_NAMED = 5
_WITHOUT_ALPHA = {"full difference", "OFT"}
_NUMBER_BETWEEN_UNDERSCORES = re.compile(r"_(\d+)(?=_|$)_?")


@dataclass(frozen=True)
class AdapterFacts:
    """An adapter in figures.

    Attributes:
        kind: LoRA, DoRA, LyCORIS LoHa, LoKr, GLoRA or full difference, or OFT; several if the file mixes them.
        modules: how many layers it changes.
        ranks: layers per rank.
        alphas: layers per alpha; a layer without one is not counted.
        layers: per block of the model the kinds of layer, with their number.
        saved_modules: names of tensors that replace the model's own, such as a classifier's head.
        components: of a pipeline, that its layers are in; ``""`` for a model of its own.
    """

    kind: str
    modules: int
    ranks: dict[int, int]
    alphas: dict[float, int]
    layers: dict[str, dict[str, int]]
    saved_modules: tuple[str, ...]
    components: tuple[str, ...]


def describe_adapter(adapter: Adapter, contents: Contents) -> AdapterFacts:
    """Return the facts; reads the alphas' few bytes where they stand among the tensors."""
    methods = adapter.methods
    try:
        alphas = _alphas(adapter, contents)
    except ReaderError:
        alphas = []  # A remark says why.
    ranks = Counter(module.rank for module in adapter.modules if module.rank is not None and not module.is_empty)
    return AdapterFacts(
        kind=" and ".join(_KINDS[method] for method, _ in methods.most_common()),
        modules=len(adapter.modules),
        ranks=dict(sorted(ranks.items())),
        alphas=dict(sorted(Counter(alphas).items())),
        layers=_group(adapter.modules),
        saved_modules=tuple(map(visible, adapter.saved_modules)),
        components=tuple(dict.fromkeys(module.component for module in adapter.modules)),
    )


def remarks_on_adapter(adapter: Adapter, facts: AdapterFacts, contents: Contents) -> list[str]:
    """Return sentences about what needs care before this adapter is used."""
    return [
        *_remarks_on_empty_matrices(adapter),
        *_remarks_on_words(adapter),
        *_remarks_on_matrices(adapter),
        *_remarks_on_settings(adapter, contents),
        *_remarks_on_alphas(adapter, facts.alphas, contents),
        *_remarks_on_loading(adapter),
        *(
            remark
            for part in (contents.parts.values() or [contents])
            for remark in _remarks_on_config(adapter, part, facts.ranks)
        ),
    ]


def _alphas(adapter: Adapter, contents: Contents) -> list[float]:
    """Return the alphas of the layers that have one.

    Raises:
        ReaderError: the settings cannot be followed, or an alpha is no number.
    """
    said = _said_strengths(adapter, contents)
    strengths_of = [said[module.component].get(module.path) for module in adapter.modules]
    return [alpha for alpha in read_alphas(adapter.modules, strengths_of, contents) if alpha is not None]


def _said_strengths(adapter: Adapter, contents: Contents) -> dict[str, dict[str, RankAndAlpha]]:
    """Return what the settings give to each layer, by component.

    Raises:
        ReaderError: they cannot be followed.
    """
    paths: dict[str, list[str]] = defaultdict(list)
    for module in adapter.modules:
        paths[module.component].append(module.path)
    return {
        component: strengths(settings_of(contents, component), some, contents.path) for component, some in paths.items()
    }


def _group(modules: Iterable[AdapterModule]) -> dict[str, dict[str, int]]:
    """Count the layers by block (what stands before the first number) and type (what stands after the last)."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for module in modules:
        path = _NUMBER_BETWEEN_UNDERSCORES.sub(r".\1.", module.path).rstrip(".") if module.flattened else module.path
        words = path.split(".")
        numbered = [place for place, word in enumerate(words) if word.isdecimal() and place + 1 < len(words)]
        block = ".".join(words[: numbered[0]]) if numbered else ""
        layer = ".".join(words[numbered[-1] + 1 :]) if numbered else path
        if module.component == "unet":
            block = block.partition(".")[0].partition("_attentions")[0].partition("_resnets")[0]
        name = printable(_COMPONENTS.get(module.component, f"{module.component} ") + block).strip()
        groups[name or "model"][printable(_with_dots(layer) if module.flattened else layer)] += 1
    return {block: dict(layers) for block, layers in groups.items()}


def _with_dots(layer: str) -> str:
    for outer in ("attn1", "attn2", "self_attn", "mlp", "ff"):
        if layer.startswith(outer + "_"):
            return f"{outer}.{layer.removeprefix(outer + '_')}"
    return layer


def _remarks_on_empty_matrices(adapter: Adapter) -> list[str]:
    empty = [module for module in adapter.modules if module.is_empty]
    if not empty:
        return []
    return [
        f"{len(empty)} of {len(adapter.modules)} layers hold no numbers, the first being {quoted(empty[0].path)}. "
        f"{EMPTY_MATRICES}"
    ]


def _remarks_on_words(adapter: Adapter) -> list[str]:
    if not adapter.words:
        return []
    words = first_few(adapter.words, _MOST_NAMED, quoted)
    return [
        f"With the LoRA come the embeddings of {words} (bundle_emb): A1111 takes them, and such a word in the "
        "prompt calls them up. diffusers and PEFT leave them out, and so does aigc convert."
    ]


def _remarks_on_matrices(adapter: Adapter) -> list[str]:
    remarks = []
    if len(adapter.key_formats) > 1:
        remarks.append(f"The names follow {len(adapter.key_formats)} formats: {', '.join(adapter.key_formats)}.")
    halves = [module for module in adapter.modules if module.missing_part()]
    if halves:
        remarks.append(
            f"{len(halves)} of {len(adapter.modules)} layers lack a matrix and change nothing, the first being "
            f"{quoted(halves[0].path)} (no {halves[0].missing_part()})."
        )
    ranks = [
        (module, down.shape[0], up.shape[1])
        for module in adapter.modules
        if (down := module.parts.get("down")) and (up := module.parts.get("up"))
        if down.shape and len(up.shape) > 1 and down.shape[0] != up.shape[1] and module.method == "LoRA"
    ]
    if ranks:
        module, rank_of_down, rank_of_up = ranks[0]
        remarks.append(
            f"The matrices of {len(ranks)} layers cannot be multiplied: in {quoted(module.path)} the one has rank "
            f"{rank_of_down}, the other {rank_of_up}."
        )
    return remarks


def _remarks_on_alphas(adapter: Adapter, alphas: dict[float, int], contents: Contents) -> list[str]:
    if not alphas and set(adapter.methods) <= _WITHOUT_ALPHA:
        return []
    if not alphas:
        try:
            _alphas(adapter, contents)
        except ReaderError as error:
            return [f"Its alphas cannot be told: {error}"]
        return ["No alpha stands here, so libraries take alpha = rank. If training had another, strength is lost."]
    remarks = []
    if len(alphas) > 1 and KOHYA in adapter.key_formats:
        remarks.append(
            "Alphas differ per layer. diffusers gives attention layers the most frequent one, with no more than a "
            "warning: some get the wrong strength."
        )
    without = len(adapter.modules) - sum(alphas.values())
    if without:
        remarks.append(f"{without} layers have no alpha; for them it is taken as the rank.")
    if 0.0 in alphas:
        remarks.append("An alpha of 0 stands here; kohya's programs read it as alpha = rank.")
    return remarks


def _remarks_on_settings(adapter: Adapter, contents: Contents) -> list[str]:
    """Say what in the settings keeps the adapter from being read, or makes its figures need care."""
    try:
        settings = [settings_of(contents, component) for component in {module.component for module in adapter.modules}]
    except ReaderError:
        return []  # The remarks on alphas say why.
    faults = dict.fromkeys(
        fault
        for each in settings
        for fault in (
            initialisation_fault(each, contents.path),
            missing_head(each, adapter.saved_modules, contents.path),
        )
    )
    remarks = [fault for fault in faults if fault]
    if any(each.get("use_rslora") for each in settings):
        remarks.append("Rank-stabilised (alpha / √rank): the alphas are the plain ones of the same strength.")
    return remarks


def _remarks_on_loading(adapter: Adapter) -> list[str]:
    remarks = []
    methods = adapter.methods
    if methods["DoRA"] and PEFT not in adapter.key_formats:
        remarks.append("diffusers drops DoRA's magnitudes from such a file and only logs it: the result differs.")
    if methods["LoHa"] and PEFT not in adapter.key_formats:
        remarks.append("diffusers does not load LoHa. A1111 and ComfyUI do.")
    if any(module.prefix == "lora_te1_" and module.path.startswith("encoder_layers_") for module in adapter.modules):
        remarks.append(
            "The text encoder's names lack text_model_: diffusers writes them so with transformers 5. A1111 and "
            "ComfyUI do not find these layers."
        )
    if LLAMA_CPP in adapter.key_formats:
        remarks.append(
            "llama.cpp loads it beside its base, a model in GGUF; Ollama by a line ADAPTER below the base's FROM in a "
            "Modelfile. LM Studio and others take whole models: aigc merge makes one of a PEFT adapter."
        )
    if any(count for method, count in methods.items() if method in ("OFT", "GLoRA", "full difference")):
        remarks.append("Not, or not only, a LoRA: ComfyUI reads it as it is; aigc convert, PEFT and diffusers do not.")
    return remarks


def _remarks_on_config(adapter: Adapter, contents: Contents, ranks: dict[int, int]) -> list[str]:
    config = contents.adapter_config
    if not config:
        return [f"PEFT loads this only with its {ADAPTER_CONFIG} beside it."] if PEFT in adapter.key_formats else []
    remarks = []
    if config.get("auto_mapping") and not names_known_library(config):
        remarks.append(f"{ADAPTER_CONFIG} names code to import (auto_mapping). Load it only if you trust its author.")
    if config.get("megatron_core") not in (None, "megatron.core"):
        remarks.append(
            f"{ADAPTER_CONFIG} names another module to import as megatron_core ({quoted(config['megatron_core'])}). "
            "Load it only if you trust its author."
        )
    if isinstance(config.get("r"), int) and config["r"] not in ranks and ranks and not config.get("rank_pattern"):
        remarks.append(f"{ADAPTER_CONFIG} says rank {quoted(config.get('r'))}, the matrices have {sorted(ranks)}.")
    return remarks

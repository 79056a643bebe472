"""Whether an adapter can be loaded into a model: every layer that it changes must be there, with equal widths."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted
from aigc_helpers.inspection.adapter_keys import PEFT_PREFIX, Adapter, AdapterModule, Shaped
from aigc_helpers.inspection.contents import Contents, read_contents
from aigc_helpers.inspection.family import (
    ORIGINAL_TEXT_ENCODERS,
    ORIGINAL_UNET,
    family_of_adapter,
    family_of_model,
    may_be_same,
)

_LACKING = {
    "unet": "it has no UNet",
    "text_encoder": "it has no text encoder of that layout",
    "text_encoder_2": "it has no second text encoder",
    "transformer": "it has no diffusion transformer",
    "": "it is a pipeline of several models, or one of its parts, and the adapter is for a model of its own",
}
# What a task's class puts before the names of the bare model; the bare model's file lacks it.
_OUTER_NAMES = ("bert.", "roberta.", "distilbert.", "transformer.", "model.", "text_model.")
_CONV1D = re.compile(r"(^|\.)h\.\d+\.(attn|mlp)\.c_")  # GPT-2 stores these as inputs × outputs.
# Single files in the layout of the original Stable Diffusion repositories: where their components begin.
_ORIGINAL_COMPONENTS = {
    "unet": (ORIGINAL_UNET,),
    "text_encoder": ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer."),
}
_ORIGINAL_BLOCKS = ("input_blocks", "middle_block", "output_blocks")


@dataclass(frozen=True)
class Compatibility:
    """Whether the adapter can be loaded into the model called ``model``, and why or why not, in words."""

    model: str
    compatible: bool
    reason: str


@dataclass(frozen=True)
class _Layer:
    outputs: int
    inputs: int


def compatibility_with_file(adapter: Adapter, base: Path, title: str) -> Compatibility:
    """Compare with the model in a file or folder; one that cannot be read is not compatible, and the reason says so."""
    try:
        return compatibility_with(adapter, read_contents(base), title)
    except ReaderError as error:
        return Compatibility(title, False, str(error))


def compatibility_with(adapter: Adapter, base: Contents, title: str) -> Compatibility:
    """Compare with a model whose headers have been read: every layer must be there, with equal widths.

    Args:
        adapter: of ``sort_adapter_keys``.
        base: the model.
        title: its name in the result.

    Example:
        >>> from aigc_helpers import install
        >>> from aigc_helpers.inspection import read_contents, sort_adapter_keys
        >>> adapter = sort_adapter_keys(read_contents(install("tune-adapter")).tensors)
        >>> compatibility_with(adapter, read_contents(install("poet")), "poet").reason
        'all 4 layers are there, with equal widths'
        >>> compatibility_with(adapter, read_contents(install("t5")), "t5").compatible
        False
    """
    if not base.tensors:
        return Compatibility(title, False, f"the layers of a {base.container} file are not known")
    missing: list[str] = []
    unequal: list[str] = []
    not_compared = ""
    for component in dict.fromkeys(module.component for module in adapter.modules):
        modules = [module for module in adapter.modules if module.component == component]
        tensors = _component(base, component)
        if tensors is None and component.startswith("text_encoder") and _has_original_text_encoder(base):
            not_compared = "; a text encoder was not compared, for the model names its layers differently"
            continue
        if tensors is None:
            return Compatibility(title, False, _LACKING[component])
        if component == "unet" and _is_original(module.path for module in modules) != _is_original(tensors):
            return _compare_families(adapter, tensors, title)
        _compare(modules, tensors, missing, unequal)
        unequal += _compare_saved_modules(adapter.saved_modules, tensors)
    if not missing and not unequal:
        compared = "all layers compared" if not_compared else f"all {len(adapter.modules)} layers"
        return Compatibility(title, True, f"{compared} are there, with equal widths{not_compared}")
    here, there = family_of_adapter(adapter), family_of_model(base.tensors)
    families = f"the adapter is for {here}, the model is {there}; " if here and there and not may_be_same(here, there) else ""
    faults = _listed([*(f"it has no layer {name}" for name in missing), *unequal], len(adapter.modules))
    return Compatibility(title, False, families + faults)


def _component(base: Contents, component: str) -> Mapping[str, Shaped] | None:
    if "" not in base.components:
        return base.components.get(component)
    tensors = base.components[""]
    original = any(name.startswith(ORIGINAL_UNET) for name in tensors)
    if original:
        beginnings = _ORIGINAL_COMPONENTS.get(component, ())
        return {
            name.removeprefix(beginning): tensor
            for beginning in beginnings
            for name, tensor in tensors.items()
            if name.startswith(beginning)
        } or None
    is_unet = any(name.startswith("down_blocks.") for name in tensors)
    if (component == "unet") == is_unet and component in ("unet", "text_encoder", ""):
        return tensors
    return None


def _has_original_text_encoder(base: Contents) -> bool:
    return any(name.startswith(ORIGINAL_TEXT_ENCODERS) for name in base.components.get("", ()))


def _is_original(names: Iterable[str]) -> bool:
    return any(name.startswith(_ORIGINAL_BLOCKS) for name in names)


def _compare_families(adapter: Adapter, tensors: Mapping[str, Shaped], title: str) -> Compatibility:
    here, there = family_of_adapter(adapter), family_of_model(tensors)
    if here and there:
        same = may_be_same(here, there)
        words = "both are" if same else f"the adapter is for {here}, the model is"
        return Compatibility(
            title, same, f"{words} {there}; layers were not compared, for the two name them differently"
        )
    return Compatibility(
        title, False, "the two name their layers differently, and no width says what the adapter is for"
    )


def _compare(
    modules: list[AdapterModule], tensors: Mapping[str, Shaped], missing: list[str], unequal: list[str]
) -> None:
    layers = {
        _inner(name.removesuffix(".weight")): _layer(name, tensor)
        for name, tensor in tensors.items()
        if name.endswith(".weight") and len(tensor.shape) > 1
    }
    flattened = {name.replace(".", "_"): layer for name, layer in layers.items()}
    for module in modules:
        if module.flattened:
            layer = flattened.get(module.path.removeprefix("text_model_"))
        else:
            layer = layers.get(_inner(module.path))
        if layer is None:
            missing.append(quoted(module.path).strip("'\""))
        elif module.sizes and not _is_equal(module, layer):
            unequal.append(_difference(module, layer))


def _compare_saved_modules(saved_modules: Mapping[str, Shaped], tensors: Mapping[str, Shaped]) -> list[str]:
    """Compare what replaces the model's own tensors; one that its file does not hold, as a new head, is no fault."""
    own = {_inner(name): tensor for name, tensor in tensors.items()}
    faults = []
    for name, tensor in saved_modules.items():
        there = own.get(_inner(name.removeprefix(PEFT_PREFIX)))
        if there is not None and there.shape != tensor.shape:
            faults.append(
                f"{quoted(name)[1:-1]} is {_times(tensor.shape)} in the adapter and {_times(there.shape)} there; an "
                "embedding is resized with model.resize_token_embeddings(n)"
            )
    return faults


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _inner(name: str) -> str:
    while True:
        outer = next((outer for outer in _OUTER_NAMES if name.startswith(outer)), None)
        if outer is None:
            return name
        name = name.removeprefix(outer)


def _layer(name: str, tensor: Shaped) -> _Layer:
    first, rest = tensor.shape[0], math.prod(tensor.shape[1:])
    return _Layer(rest, first) if _CONV1D.search(name) else _Layer(first, rest)


def _is_equal(module: AdapterModule, layer: _Layer) -> bool:
    # An embedding stores words × width, and its LoRA multiplies the other way round.
    embedding = "lora_embedding" in module.names.get("down", "")
    return module.sizes == ((layer.inputs, layer.outputs) if embedding else (layer.outputs, layer.inputs))


def _difference(module: AdapterModule, layer: _Layer) -> str:
    outputs, inputs = module.sizes or (0, 0)
    path = quoted(module.path).strip("'\"")
    if inputs != layer.inputs:
        return f"{path} takes in {layer.inputs} numbers there, and {inputs} in the adapter"
    return f"{path} gives out {layer.outputs} numbers there, and {outputs} in the adapter"


def _listed(faults: list[str], of: int) -> str:
    return faults[0] + (f" (the first of {len(faults)} such faults in {of} layers)" if len(faults) > 1 else "")

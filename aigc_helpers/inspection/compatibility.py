"""Whether an adapter can be loaded into a model: every layer that it changes must be there, with equal widths."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import escaped
from aigc_helpers.inspection.adapter_keys import PEFT_PREFIX, Adapter, AdapterModule, Shaped
from aigc_helpers.inspection.contents import Contents, read_contents
from aigc_helpers.inspection.family import (
    ORIGINAL_TEXT_ENCODERS,
    ORIGINAL_UNET,
    family_of_adapter,
    family_of_model,
    is_transformer,
    may_be_same,
)

_LACKING = {
    "text_encoder_3": "it has no third text encoder",
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
    "transformer": (ORIGINAL_UNET,),
    "text_encoder": ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer."),
}
# How quantised weights end that are packed several to a number: GPTQ and AWQ, compressed-tensors, HQQ. Others keep the
# name and are whole numbers: bitsandbytes' U8, MLX's U32, torchao's I32.
_PACKED = (".qweight", ".weight_packed", ".W_q")
_NOT_COMPARED = "layers were not compared, for the two name them differently"
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


@dataclass
class _Found:
    """What a comparison found: layers that are missing, that differ, and whose widths are not to be had."""

    missing: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    packed: int = 0
    shapeless: int = 0

    def not_compared(self) -> str:
        """Return in words what was left out."""
        words = ""
        if self.packed:
            words += f"; {self.packed} are packed there (quantised), and their widths were not compared"
        if self.shapeless:
            words += f"; the widths of {self.shapeless} do not stand in the adapter and were not compared"
        return words


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
    empty = sum(module.is_empty for module in adapter.modules)
    if empty:
        return Compatibility(title, False, f"{empty} of its {len(adapter.modules)} layers hold no numbers")
    found = _Found()
    encoders_left_out = ""
    for component in dict.fromkeys(module.component for module in adapter.modules):
        modules = [module for module in adapter.modules if module.component == component]
        tensors = _component(base, component)
        if tensors is None and component.startswith("text_encoder") and _has_original_text_encoder(base):
            encoders_left_out = "; a text encoder was not compared, for the model names its layers differently"
            continue
        if tensors is None:
            return Compatibility(title, False, _LACKING.get(component, f"it has no {component}"))
        if component == "unet" and _is_original(module.path for module in modules) != _is_original(tensors):
            return _compare_families(adapter, tensors, title)
        _compare(modules, tensors, found)
        found.unequal += _compare_saved_modules(adapter.saved_modules, tensors)
    if not found.missing and not found.unequal:
        compared = "all layers compared" if encoders_left_out else f"all {len(adapter.modules)} layers"
        equal = ", with equal widths" if found.packed + found.shapeless < len(adapter.modules) else ""
        return Compatibility(title, True, f"{compared} are there{equal}{found.not_compared()}{encoders_left_out}")
    here, there = family_of_adapter(adapter), family_of_model(base.tensors)
    if _is_named_otherwise(adapter, base) and here and there and may_be_same(here, there):
        return Compatibility(title, True, f"both are {there}; {_NOT_COMPARED}")
    families = (
        f"the adapter is for {here}, the model is {there}; " if here and there and not may_be_same(here, there) else ""
    )
    if found.missing and len(found.elsewhere) == len(found.missing) and not found.unequal:
        return Compatibility(
            title,
            False,
            f"its layers are there under other names ({found.elsewhere[0]}): the model's class has renamed them since. "
            "Use the release of transformers that the adapter was trained with",
        )
    faults = _listed([*(f"it has no layer {name}" for name in found.missing), *found.unequal], len(adapter.modules))
    return Compatibility(title, False, families + faults)


def _is_named_otherwise(adapter: Adapter, base: Contents) -> bool:
    """Say whether a transformer's adapter and the model share no form of name: one has diffusers', one others."""
    here = {_form(module.path) for module in adapter.modules if module.component == "transformer"}
    there = {_form(name.removesuffix(".weight")) for name in _component(base, "transformer") or ()}
    return bool(here and there) and not here & there


def _form(name: str) -> str:
    return re.sub(r"\d+", "#", name.replace(".", "_"))


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
    if component == "transformer":
        return tensors if is_transformer(family_of_model(tensors)) else None
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
        return Compatibility(title, same, f"{words} {there}; {_NOT_COMPARED}")
    return Compatibility(
        title, False, "the two name their layers differently, and no width says what the adapter is for"
    )


def _compare(modules: list[AdapterModule], tensors: Mapping[str, Shaped], found: _Found) -> None:
    layers = _layers(tensors)
    flattened = {name.replace(".", "_"): layer for name, layer in layers.items()}
    for module in modules:
        path = module.path.removeprefix("text_model_") if module.flattened else _inner(module.path)
        known = flattened if module.flattened else layers
        layer = known.get(path)
        if path not in known:
            found.missing.append(escaped(module.path))
            found.elsewhere += _elsewhere(module, path, layers)
        elif layer is None:
            found.packed += 1
        elif module.sizes is None:
            found.shapeless += 1
        elif not _is_equal(module, layer):
            found.unequal.append(_difference(module, layer))


def _layers(tensors: Mapping[str, Shaped]) -> dict[str, _Layer | None]:
    """Return the layers by the inner part of their names; None for one whose weight is packed."""
    layers: dict[str, _Layer | None] = {}
    for name, tensor in tensors.items():
        packed = next((ending for ending in _PACKED if name.endswith(ending)), None)
        if packed:
            layers[_inner(name.removesuffix(packed))] = None
        elif name.endswith(".weight") and len(tensor.shape) > 1:
            is_packed = tensor.dtype in ("U8", "U32", "I32") or f"{name}.absmax" in tensors
            layers[_inner(name.removesuffix(".weight"))] = None if is_packed else _layer(name, tensor)
    return layers


def _elsewhere(module: AdapterModule, path: str, layers: Mapping[str, _Layer | None]) -> list[str]:
    """Return where a layer is that has another beginning in the model, if just one there could be it."""
    there = [name for name in layers if name.endswith(f".{path}") and not module.flattened and "." in path]
    if len(there) != 1:
        return []
    layer = layers[there[0]]
    fits = layer is None or module.sizes is None or _is_equal(module, layer)
    return [f"{escaped(path)} is {escaped(there[0])}"] if fits else []


def _compare_saved_modules(saved_modules: Mapping[str, Shaped], tensors: Mapping[str, Shaped]) -> list[str]:
    """Compare what replaces the model's own tensors; one that its file does not hold, as a new head, is no fault."""
    own = {_inner(name): tensor for name, tensor in tensors.items()}
    faults = []
    for name, tensor in saved_modules.items():
        there = own.get(_inner(name.removeprefix(PEFT_PREFIX)))
        if there is not None and there.shape != tensor.shape:
            faults.append(
                f"{escaped(name)} is {_times(tensor.shape)} in the adapter and {_times(there.shape)} there; an "
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
    path = escaped(module.path)
    if inputs != layer.inputs:
        return f"{path} takes in {layer.inputs} numbers there, and {inputs} in the adapter"
    return f"{path} gives out {layer.outputs} numbers there, and {outputs} in the adapter"


def _listed(faults: list[str], of: int) -> str:
    return faults[0] + (f" (the first of {len(faults)} such faults in {of} layers)" if len(faults) > 1 else "")

"""An adapter's layers beside those of a model in memory, with every check that libraries leave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from aigc_helpers.compat import is_plain_module
from aigc_helpers.errors import ReaderError, nearest_first
from aigc_helpers.formats import quoted
from aigc_helpers.inspection import (
    ADAPTER_CONFIG,
    HEADS,
    PEFT,
    PEFT_PREFIX,
    Contents,
    Shaped,
    compatibility_with,
    family_of_model,
    may_be_same,
)
from aigc_helpers.lora.adapter import LoraAdapter, LoraLayer, read_adapter
from aigc_helpers.lora.models import (
    layers_for_lora,
    models_of,
    plain_parameters,
    refuse_changed_base,
    refuse_merged,
)
from aigc_helpers.lora.names import plain_name
from aigc_helpers.lora.refusals import refuse_left_out
from aigc_helpers.lora.saved_modules import SavedModules, refuse_unexpected, sort_saved_modules
from aigc_helpers.lora.write import PEFT_FILE, Read, open_tensors, peft_magnitude

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline


@dataclass(frozen=True)
class MatchedLayer:
    """A layer of the adapter and the layer of the model that it is for.

    Attributes:
        layer: of the adapter.
        name: of the model's layer, within its component.
        down: rank × inputs (× kernel), as in the file.
        up: outputs × rank.
        magnitude: of a DoRA, as PEFT keeps it.
    """

    layer: LoraLayer
    name: str
    down: torch.Tensor
    up: torch.Tensor
    magnitude: torch.Tensor | None

    @property
    def scale(self) -> float:
        """By what the product of the matrices is multiplied."""
        return self.layer.alpha / self.layer.rank


class Match(NamedTuple):
    """A compatible adapter: by component its layers and what it replaces, and sentences for the reader."""

    layers: dict[str, list[MatchedLayer]]
    saved_modules: dict[str, SavedModules]
    remarks: tuple[str, ...]


class _Shape(NamedTuple):
    dtype: str
    shape: tuple[int, ...]


def match(target: DiffusionPipeline | torch.nn.Module, path: Path) -> Match:
    """Read an adapter and find the model's layer for each of its own. Nothing of the model is changed.

    Raises:
        ReaderError: what ``load_adapter`` raises.
    """
    models = models_of(target)
    refuse_merged(models)
    refuse_changed_base(models)
    names = {component: _names(component, model) for component, model in models.items()}
    adapter = _with_component(read_adapter(path, names), models)
    refuse_unknown_strength(adapter)
    _check_compatibility(adapter, models)
    matched: dict[str, list[MatchedLayer]] = {}
    with open_tensors(adapter) as read:
        for layer in adapter.layers:
            # Copies: the views of the mapped file would change with it.
            down, up = read(layer.tensors["down"]).clone(), read(layer.tensors["up"]).clone()
            magnitude = peft_magnitude(layer, read).clone() if "magnitude" in layer.tensors else None
            name = _find(layer, names[layer.component], path)
            matched.setdefault(layer.component, []).append(MatchedLayer(layer, name, down, up, magnitude))
        _refuse_shared(adapter, matched)
        check_magnitudes(adapter, matched)
        _check_nothing_left_out(adapter, models, matched)
        saved = {
            component: _saved_modules_of(adapter, component, models[component], layers, names[component], read)
            for component, layers in matched.items()
        }
    remarks = [
        *adapter.remarks,
        *check_effect(path, [one for layers in matched.values() for one in layers]),
        *(remark for one in saved.values() for remark in one.remarks()),
        *_remarks_on_head(models, saved),
    ]
    return Match(matched, saved, tuple(remarks))


def refuse_unknown_strength(adapter: LoraAdapter) -> None:
    """Refuse PEFT's tensors without PEFT's settings, where the alphas stand: PEFT itself does not load them either.

    Raises:
        ReaderError: they are missing.
    """
    if PEFT in adapter.key_formats and not any(adapter.said.values()):
        raise ReaderError(
            f"{adapter.source} holds PEFT's tensors, and {ADAPTER_CONFIG} is missing, where their strength stands. Put "
            f"it beside {PEFT_FILE}, the name under which PEFT saves them, and name the folder. The model is as it was."
        )


def _shapes(component: str, model: torch.nn.Module) -> dict[str, Shaped]:
    return {
        plain_name(component, name.removesuffix(".weight")) + ".weight": _Shape(str(weight.dtype), tuple(weight.shape))
        for name, weight in plain_parameters(model).items()
        if name.endswith(".weight")
    }


def _names(component: str, model: torch.nn.Module) -> dict[str, str]:
    return {plain_name(component, name): name for name, _ in model.named_modules() if is_plain_module(name)}


def _with_component(adapter: LoraAdapter, models: Mapping[str, torch.nn.Module]) -> LoraAdapter:
    """Give an adapter for one component alone the component's name that the model goes by here.

    A text encoder's adapter does not say whether it is the first or the second; a CLIP's own may be either.
    """
    (component, *others) = adapter.components
    (model, *more) = models or [""]
    is_encoder = component.startswith("text_encoder") and model != "unet"
    if others or more or component == model or not (is_encoder or (component, model) == ("transformer", "")):
        return adapter
    layers = tuple(
        replace(layer, component=model, path=_path_in(model, layer) if is_encoder else layer.path)
        for layer in adapter.layers
    )
    return replace(adapter, layers=layers, said={**adapter.said, model: adapter.said.get(component, {})})


def _path_in(model: str, layer: LoraLayer) -> str:
    if model:
        return plain_name(model, layer.path)
    # A model of its own, such as a whole CLIP, has its layers as PEFT wrote them.
    return layer.tensors["down"].name.removeprefix(PEFT_PREFIX).partition(".lora_")[0]


def _check_compatibility(adapter: LoraAdapter, models: Mapping[str, torch.nn.Module]) -> None:
    shapes = {component: _shapes(component, model) for component, model in models.items()}
    contents = Contents(Path("model"), "model", components=dict(shapes))
    # What is no LoRA's is compared with the model itself, and with more to say (aigc_helpers.lora.saved_modules).
    found = compatibility_with(replace(adapter.sorted_keys(), saved_modules={}), contents, "the model")
    if found.compatible:
        return
    here, there = adapter.family, family_of_model(contents.tensors)
    families = ""
    if here and there and not may_be_same(here, there) and here not in found.reason:
        families = f"the adapter is for {here}, the model is {there}; "
    raise ReaderError(
        f"{adapter.source} does not fit this model: {families}{found.reason}. Load it into the model that it was "
        "trained on; its card names it. The model is as it was."
    )


def _find(layer: LoraLayer, names: Mapping[str, str], path: Path) -> str:
    if layer.path in names:
        return names[layer.path]
    # With or without what a task's class puts before the names of the bare model.
    inner = [name for name in names if name and layer.path.endswith(f".{name}")]
    outer = [name for name in names if name.endswith(f".{layer.path}")]
    if inner:
        return names[max(inner, key=len)]
    if len(outer) == 1:
        return names[outer[0]]
    likest = ", ".join(outer or nearest_first(layer.path, filter(None, names))[:3])
    raise ReaderError(f"{path}: the model has no layer {quoted(layer.path)}. The likest there are: {likest}.")


def _check_nothing_left_out(
    adapter: LoraAdapter, models: Mapping[str, torch.nn.Module], matched: Mapping[str, list[MatchedLayer]]
) -> None:
    """Compare with what the file says it was trained on: a layer without its matrices would stay the base's."""
    for component, layers in matched.items():
        found = {one.name for one in layers}
        refuse_left_out(adapter.said.get(component, {}), layers_for_lora(models[component]), found, adapter.source)


def _refuse_shared(adapter: LoraAdapter, matched: Mapping[str, list[MatchedLayer]]) -> None:
    """Refuse two layers of the adapter that would end up at one of the model: one of them would be lost."""
    for layers in matched.values():
        found: dict[str, MatchedLayer] = {}
        for one in layers:
            if one.name in found:
                raise ReaderError(
                    f"{adapter.source}: the layers {quoted(found[one.name].layer.path)} and {quoted(one.layer.path)} "
                    f"both belong to {quoted(one.name)} of this model. The adapter is for a model of several parts; "
                    "load it into that. The model is as it was."
                )
            found[one.name] = one


def check_magnitudes(adapter: LoraAdapter, matched: Mapping[str, list[MatchedLayer]]) -> None:
    """Refuse a DoRA that lacks some of its magnitudes: PEFT would go on with those of the base.

    Raises:
        ReaderError: it lacks some.
    """
    for component, layers in matched.items():
        without = [one for one in layers if one.magnitude is None]
        is_dora = len(without) < len(layers) or adapter.said.get(component, {}).get("use_dora") is True
        if is_dora and without:
            raise ReaderError(
                f"{adapter.source} is a DoRA, and {len(without)} of its {len(layers)} layers have no magnitudes, the "
                f"first being {quoted(without[0].layer.path)}. The file is not whole. The model is as it was."
            )


def _saved_modules_of(
    adapter: LoraAdapter,
    component: str,
    model: torch.nn.Module,
    layers: list[MatchedLayer],
    names: Mapping[str, str],
    read: Read,
) -> SavedModules:
    several = len(adapter.components) > 1
    prefix = f"{component}." if several else ""
    places = {name: place for name, place in adapter.saved_modules.items() if name.startswith(prefix)}
    unexpected = [
        name for name in adapter.saved_modules if several and name.partition(".")[0] not in adapter.components
    ]
    places |= {name: adapter.saved_modules[name] for name in unexpected}
    if places and not adapter.settings:
        refuse_unexpected(next(iter(places)), adapter.source)
    return sort_saved_modules(
        model,
        {name.removeprefix(prefix): read(place).clone() for name, place in places.items()},
        adapter.said.get(component, {}),
        adapter.source,
        [one.name for one in layers],
        lambda module: names.get(plain_name(component, module), module),
    )


def _remarks_on_head(models: Mapping[str, torch.nn.Module], saved: Mapping[str, SavedModules]) -> list[str]:
    model, replaced = models.get(""), saved.get("", SavedModules())
    heads = [] if model is None else [name for name in HEADS if isinstance(getattr(model, name, None), torch.nn.Module)]
    return [
        f"The adapter brings no head: the model's own ({name}) stays. In a model made anew it is random."
        for name in heads
        if not any(module.split(".")[0] == name for module in replaced.modules_to_save)
    ]


def check_effect(path: Path, layers: list[MatchedLayer]) -> list[str]:
    """Return a remark on layers that change nothing.

    Raises:
        ReaderError: the matrices hold NaN or infinite numbers, or no layer changes anything.
    """
    for one in layers:
        tensors = [one.down, one.up, *([] if one.magnitude is None else [one.magnitude])]
        if not all(torch.isfinite(tensor.float()).all() for tensor in tensors):
            raise ReaderError(
                f"{path}: the matrices of layer {quoted(one.layer.path)} hold NaN or infinite numbers, so that every "
                "output would be NaN. The training diverged, or the file is damaged."
            )
    still = [one for one in layers if one.magnitude is None and not _changes(one)]
    if len(still) == len(layers):
        raise ReaderError(
            f"{path} changes no output: in all {len(layers)} layers one of the matrices or the strength is zero, as "
            "before the first step of training. Train it, or look for the checkpoint that was."
        )
    return [f"{len(still)} of {len(layers)} layers are zero and change nothing."] if still else []


def _changes(one: MatchedLayer) -> bool:
    return bool(one.scale) and bool(one.down.any()) and bool(one.up.any())

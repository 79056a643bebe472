"""An adapter's layers beside those of a model in memory, with every check that libraries leave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from aigc_helpers.errors import ReaderError, nearest_first
from aigc_helpers.lora.adapter import LoraAdapter, LoraLayer, read_adapter
from aigc_helpers.lora.models import LORA_LAYERS, models_of, plain_layer, plain_parameters
from aigc_helpers.lora.names import plain_name
from aigc_helpers.lora.write import open_tensors, peft_magnitude
from aigc_helpers.weights.contents import Contents
from aigc_helpers.weights.family import family_of_model
from aigc_helpers.weights.fits import fit_contents
from aigc_helpers.weights.safetensors_header import quoted

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


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
    """An adapter that fits: its layers by component, and the tensors that replace whole layers, by name."""

    adapter: LoraAdapter
    layers: dict[str, list[MatchedLayer]]
    whole_layers: dict[str, torch.Tensor]
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
    names = {component: _names(component, model) for component, model in models.items()}
    adapter = _with_component(read_adapter(path, names), models)
    _check_fit(adapter, models)
    matched: dict[str, list[MatchedLayer]] = {}
    with open_tensors(adapter) as read:
        for layer in adapter.layers:
            # Copies: the views of the mapped file would change with it.
            down, up = read(layer.tensors["down"]).clone(), read(layer.tensors["up"]).clone()
            magnitude = peft_magnitude(layer, read).clone() if "magnitude" in layer.tensors else None
            name = _find(layer, names[layer.component], path)
            matched.setdefault(layer.component, []).append(MatchedLayer(layer, name, down, up, magnitude))
        _check_nothing_left_out(adapter, models, matched)
        whole = _whole_layers(adapter, models, {name: read(place) for name, place in adapter.whole_layers.items()})
    remarks = [*adapter.remarks, *_check_effect(path, [one for layers in matched.values() for one in layers])]
    return Match(adapter, matched, whole, tuple(remarks))


def _shapes(component: str, model: torch.nn.Module) -> dict[str, _Shape]:
    return {
        plain_name(component, name.removesuffix(".weight")) + ".weight": _Shape(str(weight.dtype), tuple(weight.shape))
        for name, weight in plain_parameters(model).items()
        if name.endswith(".weight")
    }


def _names(component: str, model: torch.nn.Module) -> dict[str, str]:
    return {
        plain_name(component, name): name
        for name, _ in model.named_modules()
        if not name.endswith(".base_layer") and ".lora_" not in name
    }


def _with_component(adapter: LoraAdapter, models: Mapping[str, torch.nn.Module]) -> LoraAdapter:
    """Give an adapter for one component alone the component's name that the model goes by here.

    A text encoder's adapter does not say whether it is the first or the second; a CLIP's own may be either.
    """
    (component, *others) = adapter.components
    (model, *more) = models or [""]
    if others or more or component == model or not component.startswith("text_encoder") or model == "unet":
        return adapter
    layers = tuple(
        # A model of its own, such as a whole CLIP, has its layers as PEFT wrote them.
        replace(layer, component=model, path=plain_name(model, layer.path) if model else _path_in_file(layer))
        for layer in adapter.layers
    )
    return replace(adapter, layers=layers)


def _path_in_file(layer: LoraLayer) -> str:
    return layer.tensors["down"].name.removeprefix("base_model.model.").partition(".lora_")[0]


def _check_fit(adapter: LoraAdapter, models: Mapping[str, torch.nn.Module]) -> None:
    shapes = {component: _shapes(component, model) for component, model in models.items()}
    contents = Contents(Path("model"), "model", components=dict(shapes))
    fit = fit_contents(adapter.sorted_keys(), contents, "the model")
    if fit.fits:
        return
    here, there = adapter.family, family_of_model(contents.tensors)
    families = ""
    if here and there and here != there and here not in fit.reason:
        families = f"the adapter is for {here}, the model is {there}; "
    raise ReaderError(
        f"{adapter.source} does not fit this model: {families}{fit.reason}. Load it into the model that it was "
        "trained on; its card names it. Nothing was loaded."
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
    kept = tuple(adapter.settings.get("modules_to_save") or ())
    for component, layers in matched.items():
        ends = tuple(f".{target}" for target in adapter.targets.get(component, ()))
        found = {one.name for one in layers}
        without = [
            name
            for name, layer in models[component].named_modules()
            if ends
            and f".{name}".endswith(ends)
            and isinstance(plain_layer(layer), LORA_LAYERS)
            and name not in found
            and not any(f".{each}." in f".{name}." for each in kept)
        ]
        if without:
            raise ReaderError(
                f"{adapter.source} was trained on {len(found) + len(without)} layers of this model and has matrices "
                f"for {len(found)}: {quoted(without[0])} gets nothing. The file is not whole, or the model has more "
                "layers than the one it was trained on."
            )


def _whole_layers(
    adapter: LoraAdapter, models: Mapping[str, torch.nn.Module], tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    kept = adapter.settings.get("modules_to_save") or ()
    own = plain_parameters(models[""]) if "" in models else {}
    for name, tensor in tensors.items():
        if name not in own or not any(f".{each}." in f".{name}" for each in kept):
            raise ReaderError(
                f"{adapter.source}: the tensor {quoted(name)} matches nothing in this model: it is no LoRA's, and no "
                "layer that the adapter says it replaces (modules_to_save). Load it into the class of model that it "
                "was trained with."
            )
        if own[name].shape != tensor.shape:
            raise ReaderError(
                f"{adapter.source}: {quoted(name)} has the shape {list(tensor.shape)}, and {list(own[name].shape)} "
                "in this model; a classifier's number of labels is set when the model is made (num_labels)."
            )
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _check_effect(path: Path, layers: list[MatchedLayer]) -> list[str]:
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

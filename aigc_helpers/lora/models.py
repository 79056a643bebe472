"""The models within a pipeline, and their own layers where PEFT has put others around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from aigc_helpers.compat import adapters_of, is_plain_module, merged_into, plain_key
from aigc_helpers.errors import ReaderError
from aigc_helpers.inspection import changes_base
from aigc_helpers.lora.adapter import COMPONENTS

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

# What PEFT has a LoRA for.
_LORA_LAYERS = (
    torch.nn.Linear,
    torch.nn.Embedding,
    torch.nn.Conv1d,
    torch.nn.Conv2d,
    torch.nn.Conv3d,
    torch.nn.MultiheadAttention,
    Conv1D,
)


def models_of(target: DiffusionPipeline | torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return the models that a LoRA can be for, by the component's name; ``""`` for a model of its own.

    Raises:
        ReaderError: a PeftModel, which keeps a list of its adapters of its own; or nothing that a LoRA can be for.
    """
    from peft import PeftModel

    if isinstance(target, PeftModel):
        raise ReaderError("this is a PeftModel. Give the model within it (model.unload()), or call its load_adapter.")
    if not isinstance(target, torch.nn.Module):
        parts = {component: getattr(target, component, None) for component in (*COMPONENTS, "transformer")}
        models = {component: part for component, part in parts.items() if isinstance(part, torch.nn.Module)}
        if not models:
            raise ReaderError(
                f"a LoRA is for a model, and a {type(target).__name__} is none. Give a Stable Diffusion pipeline, its "
                "UNet or text encoder, or a model of transformers."
            )
        return models
    kinds = {
        "UNet2DConditionModel": "unet",
        "CLIPTextModel": "text_encoder",
        "CLIPTextModelWithProjection": "text_encoder_2",
    }
    return {kinds.get(type(target).__name__, ""): target}


def plain_layer(layer: torch.nn.Module) -> torch.nn.Module:
    """Return the model's own layer, where PEFT has put one of its around it."""
    get_base_layer = getattr(layer, "get_base_layer", None)
    return get_base_layer() if get_base_layer else layer


def layers_for_lora(model: torch.nn.Module) -> list[str]:
    """Return the names of the model's own layers that PEFT has a LoRA for."""
    return [
        name
        for name, layer in model.named_modules()
        if name and is_plain_module(name) and isinstance(plain_layer(layer), _LORA_LAYERS)
    ]


def weight_of(layer: torch.nn.Module) -> torch.Tensor:
    """Return a layer's weight.

    Raises:
        TypeError: it has none.
    """
    if not isinstance(layer.weight, torch.Tensor):
        raise TypeError(f"the weight of a {type(layer).__name__} is no tensor")
    return layer.weight


def plain_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the model's own parameters by the names that they have without PEFT's layers around them.

    A parameter that two layers share, such as an embedding that is also the output layer, stands under both names.
    """
    named = ((plain_key(name), one) for name, one in model.named_parameters(remove_duplicate=False))
    return {name: one for name, one in named if name is not None}


def plain_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the model's own parameters and saved buffers, by the names that they have without PEFT's layers."""
    named = ((plain_key(name), tensor) for name, tensor in model.state_dict(keep_vars=True).items())
    return {name: tensor for name, tensor in named if name is not None}


def refuse_merged(models: Mapping[str, torch.nn.Module]) -> None:
    """Refuse models in whose weights an adapter is merged: whatever is loaded then, the way back would be lost.

    PEFT takes a merged adapter out by subtracting what its matrices give at that moment. With other matrices in their
    place that is another number, and without them nothing; the base would stay wrong for good.

    Raises:
        ReaderError: the message names the adapter and the call that takes it out.
    """
    for model in models.values():
        merged = merged_into(model)
        if merged:
            names = ", ".join(repr(name) for name in sorted(merged))
            raise ReaderError(
                f"the adapter {names} is merged (fused) into the weights of this {type(model).__name__}, and could not "
                "be taken out of them any more. Take it out first, with unfuse_lora() of the pipeline or the model, or "
                "with unmerge() of each of its LoRA layers. Nothing was changed."
            )


def refuse_changed_base(models: Mapping[str, torch.nn.Module]) -> None:
    """Refuse models whose weights an adapter that is in them has changed, as PiSSA does when it begins.

    Raises:
        ReaderError: the message names the adapter.
    """
    for model in models.values():
        for name, config in adapters_of(model).items():
            initial = getattr(config, "init_lora_weights", None)  # Other methods' settings have none.
            if changes_base(initial):
                raise ReaderError(
                    f"the adapter {name!r} in this {type(model).__name__} was begun with {initial!r} "
                    "(init_lora_weights), which took a part out of the base's weights: no other adapter is right on "
                    "them. Load the model anew. Nothing was changed."
                )

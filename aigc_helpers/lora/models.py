"""The models within a pipeline, and their own layers where PEFT has put others around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from aigc_helpers.errors import ReaderError
from aigc_helpers.lora.adapter import COMPONENTS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

# What PEFT has a LoRA for.
LORA_LAYERS = (
    torch.nn.Linear,
    torch.nn.Embedding,
    torch.nn.modules.conv._ConvNd,
    torch.nn.MultiheadAttention,
    Conv1D,
)


def models_of(target: DiffusionPipeline | torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return the models that a LoRA can be for, by the component's name; ``""`` for a model of its own.

    Raises:
        ReaderError: a PeftModel, which keeps a list of its adapters of its own.
    """
    from peft import PeftModel

    if isinstance(target, PeftModel):
        raise ReaderError("this is a PeftModel. Give the model within it (model.unload()), or call its load_adapter.")
    if not isinstance(target, torch.nn.Module):
        parts = {component: getattr(target, component, None) for component in COMPONENTS}
        return {component: part for component, part in parts.items() if isinstance(part, torch.nn.Module)}
    kinds = {
        "UNet2DConditionModel": "unet",
        "CLIPTextModel": "text_encoder",
        "CLIPTextModelWithProjection": "text_encoder_2",
    }
    return {kinds.get(type(target).__name__, ""): target}


def plain_layer(layer: torch.nn.Module) -> torch.nn.Module:
    """Return the model's own layer, where PEFT has put one of its around it."""
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer


def plain_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the model's own parameters by the names that they have without PEFT's layers around them."""
    return {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" not in name and ".modules_to_save." not in name
    }

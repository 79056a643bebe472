"""Diffusion transformers of diffusers with one block of each kind, on the meta device: names and widths, no numbers."""

from __future__ import annotations

import inspect

import diffusers
import torch

# diffusers' class, what it takes to be built small in depth, and the family. Widths are those of its defaults.
MODELS = [
    ("FluxTransformer2DModel", {"guidance_embeds": True}, "FLUX.1"),
    ("Flux2Transformer2DModel", {}, "FLUX.2"),
    ("ChromaTransformer2DModel", {}, "Chroma"),
    ("SD3Transformer2DModel", {"num_attention_heads": 24, "caption_projection_dim": 1536}, "Stable Diffusion 3"),
    ("QwenImageTransformer2DModel", {}, "Qwen-Image"),
    ("ZImageTransformer2DModel", {}, "Z-Image"),
    ("Lumina2Transformer2DModel", {}, "Lumina 2"),
    ("WanTransformer3DModel", {}, "Wan 2.x"),
    ("HunyuanVideoTransformer3DModel", {}, "HunyuanVideo"),
    ("LTXVideoTransformer3DModel", {}, "LTX-Video"),
    ("LTX2VideoTransformer3DModel", {}, "LTX-2"),
    ("SanaTransformer2DModel", {}, "SANA"),
    ("PixArtTransformer2DModel", {"caption_channels": 4096}, "PixArt"),
]
_DEPTHS = ("num_layers", "num_single_layers", "num_refiner_layers", "n_layers", "n_refiner_layers")


def linears(class_name: str, settings: dict[str, object]) -> dict[str, torch.nn.Linear]:
    """Return the layers of a model of that class with one block of each kind, without numbers."""
    model_class = getattr(diffusers, class_name)
    known = inspect.signature(model_class.__init__).parameters
    with torch.device("meta"):
        model = model_class(**{name: 1 for name in _DEPTHS if name in known} | settings)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}

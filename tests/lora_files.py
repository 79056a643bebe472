"""LoRA files for tests: random matrices under the real layers of a small or of a full-sized model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

UNET_LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
UNET_CONVOLUTION = "down_blocks.0.resnets.0.conv1"
TEXT_LAYER = "encoder.layers.0.self_attn.q_proj"


@dataclass(frozen=True)
class Made:
    """A layer of a LoRA: for which component and layer, with which matrices and alpha."""

    component: str
    path: str
    down: torch.Tensor
    up: torch.Tensor
    alpha: float


def make(component: str, path: str, sizes: Sequence[int], rank: int, alpha: float, seed: int = 0, **options) -> Made:
    """Return random matrices for a layer of ``sizes``: outputs, inputs, and of a convolution the kernel's sides."""
    generator = torch.Generator().manual_seed(seed)
    outputs, inputs, *kernel = sizes
    dtype = options.get("dtype", torch.float32)
    down = torch.randn(rank, inputs, *kernel, generator=generator).to(dtype)
    up = (torch.randn(outputs, rank, *[1] * len(kernel), generator=generator) * options.get("size", 0.02)).to(dtype)
    return Made(component, path, down, up, alpha)


def make_for(
    model: torch.nn.Module, component: str, targets: Sequence[str], rank: int, alpha: float, **options
) -> list[Made]:
    """Return random matrices for each layer of the model whose name ends with one of the targets."""
    layers = [
        (name, layer.weight.shape)
        for name, layer in model.named_modules()
        if name.endswith(tuple(targets)) and isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))
    ]
    return [
        make(component, name, shape, rank, alpha, seed, **options) for seed, (name, shape) in enumerate(layers, start=1)
    ]


def save_kohya(path: Path, layers: Sequence[Made], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a file as kohya's trainer does for Stable Diffusion 1.x."""
    tensors = {}
    for layer in layers:
        inner = "text_model." if layer.component == "text_encoder" else ""
        prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}[layer.component]
        stem = prefix + (inner + layer.path).replace(".", "_")
        tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = layer.down, layer.up
        tensors[f"{stem}.alpha"] = torch.tensor(layer.alpha, dtype=layer.down.dtype)
    save_file(tensors, path, dict(metadata or {}))
    return path


def tensors_in(path: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a file, or of all safetensors files in a folder, by file and name."""
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    root = path.parent if path.is_file() else path
    single = len(files) == 1
    return {
        name if single else f"{file.relative_to(root)}:{name}": tensor
        for file in files
        for name, tensor in load_file(file).items()
    }


def same_bits(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Say whether two files hold the same names with the same dtypes, shapes and bits."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name]
        .contiguous()
        .reshape(-1)
        .view(torch.uint8)
        .equal(other[name].contiguous().reshape(-1).view(torch.uint8))
        for name in one
    )


def header_of(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, read by hand."""
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        return json.loads(opened.read(length)).get("__metadata__", {})

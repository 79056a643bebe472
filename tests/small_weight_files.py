"""Weight files of a few tensors, as the tests of ``inspect`` need them."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from aigc_helpers import inspect
from aigc_helpers.inspection import Inspection

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
KOHYA_BLOCK = "lora_unet_" + BLOCK.replace(".", "_")
Tensors = dict[str, np.ndarray]


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, "f4")


def inspect_saved(tmp_path: Path, tensors: Tensors, metadata: dict[str, str] | None = None, **options) -> Inspection:
    path = tmp_path / "some.safetensors"
    save_file(tensors, path, metadata)
    return inspect(path, **options)


def kohya_lora(width: int, ranks: tuple[int, int] = (4, 4), alphas: tuple[float, float] = (4, 4)) -> Tensors:
    return {
        f"{KOHYA_BLOCK}_attn1_to_q.lora_down.weight": zeros(ranks[0], 320),
        f"{KOHYA_BLOCK}_attn1_to_q.lora_up.weight": zeros(320, ranks[0]),
        f"{KOHYA_BLOCK}_attn1_to_q.alpha": np.array(alphas[0], "f2"),
        f"{KOHYA_BLOCK}_attn2_to_k.lora_down.weight": zeros(ranks[1], width),
        f"{KOHYA_BLOCK}_attn2_to_k.lora_up.weight": zeros(320, ranks[1]),
        f"{KOHYA_BLOCK}_attn2_to_k.alpha": np.array(alphas[1], "f4"),
    }


def dotted_lora(prefix: str, down: str, up: str) -> Tensors:
    return {
        f"{prefix}{BLOCK}.attn2.to_k{down}": zeros(4, 768),
        f"{prefix}{BLOCK}.attn2.to_k{up}": zeros(320, 4),
    }


def unet(width: int) -> Tensors:
    return {
        "conv_in.weight": zeros(320, 4, 3, 3),
        f"{BLOCK}.attn1.to_q.weight": zeros(320, 320),
        f"{BLOCK}.attn2.to_k.weight": zeros(320, width),
        "up_blocks.0.resnets.0.conv1.weight": zeros(320, 320, 3, 3),
    }


def loha(width: int) -> Tensors:
    name = f"{KOHYA_BLOCK}_attn2_to_k"
    return {
        f"{name}.hada_w1_a": zeros(320, 8),
        f"{name}.hada_w1_b": zeros(8, width),
        f"{name}.hada_w2_a": zeros(320, 8),
        f"{name}.hada_w2_b": zeros(8, width),
        f"{name}.alpha": np.array(4, "f4"),
    }


def lokr(width: int) -> Tensors:
    name = f"{KOHYA_BLOCK}_attn2_to_k"
    return {
        f"{name}.lokr_w1": zeros(16, 16),
        f"{name}.lokr_w2_a": zeros(20, 4),
        f"{name}.lokr_w2_b": zeros(4, width // 16),
        f"{name}.alpha": np.array(1, "f4"),
    }


def dora(width: int) -> Tensors:
    tensors = kohya_lora(width)
    magnitudes = {name.replace("alpha", "dora_scale"): zeros(320, 1) for name in tensors if name.endswith("alpha")}
    return tensors | magnitudes


def diffusers_folder(folder: Path) -> Path:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "U"],
        "text_encoder": ["transformers", "C"],
    }
    index |= {"safety_checker": [None, None], "scheduler": ["diffusers", "D"]}
    for component, tensors in {"unet": unet(768), "text_encoder": {"text_model.a.weight": zeros(3, 3)}}.items():
        (folder / component).mkdir(parents=True)
        (folder / component / "config.json").write_text("{}")
        save_file(tensors, folder / component / "model.safetensors")
    (folder / "scheduler").mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(data_size: int = 18 * 2 + 28) -> bytes:
    """Return a file with one quantised and one plain tensor, and an array of tokens among its values."""
    content = b"GGUF" + struct.pack("<IQQ", 3, 2, 3)
    content += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    content += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    content += text("llama.block_count") + struct.pack("<II", 4, 1)
    content += text("blk.0.attn_q.weight") + struct.pack("<IQQIQ", 2, 32, 2, 2, 0)
    content += text("blk.0.norm.weight") + struct.pack("<IQIQ", 1, 4, 0, 48)
    content += bytes(-len(content) % 32)
    return content + bytes(data_size)


def zip_around(path: Path, program: bytes) -> Path:
    """Write a torch zip around one pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
    return path


def torch_zip(path: Path, value: object, protocol: int = 2) -> Path:
    return zip_around(path, pickle.dumps(value, protocol))

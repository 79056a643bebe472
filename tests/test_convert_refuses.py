"""What cannot be converted without loss is refused by name, with what to do instead, and nothing is written.

A converter that drops what it does not know makes a file that loads, and does something else.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lora_files import make, save_kohya
from safetensors.torch import load_file, save_file

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.lora import convert
from aigc_helpers.paths import DATA

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
STEM = f"lora_unet_{LAYER.replace('.', '_')}"
DOWN, UP = torch.ones(2, 768), torch.ones(8, 2)
LORA = {f"{STEM}.lora_down.weight": DOWN, f"{STEM}.lora_up.weight": UP}
HADA = {f"{STEM}.hada_w{number}_{letter}": torch.ones(2, 2) for number in (1, 2) for letter in "ab"}

REFUSED = {
    "LoHa": (HADA, "LyCORIS LoHa.*A1111 and ComfyUI load it as it is.*LoHaConfig"),
    "LoKr": ({f"{STEM}.lokr_w1": UP, f"{STEM}.lokr_w2": UP}, "LyCORIS LoKr.*LoKrConfig"),
    "Tucker": (LORA | {f"{STEM}.lora_mid.weight": torch.ones(2, 2, 3, 3)}, "Tucker decomposition"),
    "half": ({f"{STEM}.lora_down.weight": DOWN}, "lacks a matrix.*up"),
    "ranks": (LORA | {f"{STEM}.lora_up.weight": torch.ones(8, 3)}, "cannot be multiplied"),
    "DoRA per input": (LORA | {f"{STEM}.dora_scale": torch.ones(1, 768)}, "one magnitude per input"),
    "no LoRA": ({"weight": DOWN}, "holds no LoRA"),
    "stranger": (LORA | {"text_model.embeddings": UP}, "no LoRA's.*text_model.embeddings"),
    "alpha": (LORA | {f"{STEM}.alpha": torch.tensor(float("nan"))}, "no single finite number"),
    "infinite strength": (
        LORA | {f"{STEM}.alpha": torch.tensor(1e299, dtype=torch.float64)},
        "is no single finite number, or one that no training has",
    ),
    "twice": (LORA | {f"unet.{LAYER}.lora_A.weight": DOWN, f"unet.{LAYER}.lora_B.weight": UP}, "twice"),
    "embedding": (
        {"base_model.model.wte.lora_embedding_A": DOWN, "base_model.model.wte.lora_embedding_B": UP},
        "LoRA on an embedding",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_what_was_there_stays(tmp_path: Path, name: str) -> None:
    tensors, message = REFUSED[name]
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / "source.safetensors")
    (tmp_path / "old.safetensors").write_bytes(b"what was there")
    with pytest.raises(ReaderError, match=f"(?s){message}"):
        convert(tmp_path / "source.safetensors", tmp_path / "old.safetensors", "diffusers")
    assert (tmp_path / "old.safetensors").read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.safetensors", "source.safetensors"]


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt", "lora.ckpt"])
def test_a_pickle_is_not_opened(tmp_path: Path, name: str) -> None:
    torch.save(LORA, tmp_path / name)
    with pytest.raises(ReaderError, match=f"is a pickle.*aigc install .*{name}"):
        convert(tmp_path / name, tmp_path / "new.safetensors", "kohya")


def test_a_folder_with_nothing_but_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    torch.save(LORA, tmp_path / "folder" / "pytorch_lora_weights.bin")
    with pytest.raises(ReaderError, match="is a pickle|safetensors alone"):
        convert(tmp_path / "folder", tmp_path / "new.safetensors", "kohya")


def peft_folder(folder: Path, path: str = LAYER, **settings: object) -> Path:
    folder.mkdir()
    names = (f"base_model.model.{path}.lora_{letter}.weight" for letter in "AB")
    save_file(dict(zip(names, (DOWN, UP), strict=True)), folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": [path]} | settings
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "another kind.*IA3"),
        ({"alora_invocation_tokens": [1]}, "only PEFT knows.*alora"),
        ({"bias": "lora_only"}, "only PEFT's format.*Converted to peft"),
        ({"trainable_token_indices": [1]}, "only PEFT's format.*Converted to peft"),
        ({"init_lora_weights": "pissa"}, "pissa.*would count twice"),
        ({"alpha_pattern": {"(a+": 3}}, "no regular expression"),
        ({"lora_alpha": "many"}, "no number"),
    ],
)
def test_settings_that_change_the_result_are_refused(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        convert(peft_folder(tmp_path / "peft", **settings), tmp_path / "new.safetensors", "kohya")


def test_settings_that_would_import_or_fetch_are_only_reported(tmp_path: Path) -> None:
    dangerous = {
        "auto_mapping": {"base_model_class": "x", "parent_library": "no_such_module"},
        "megatron_core": "no_such_module",
        "base_model_name_or_path": "somebody/seven-gigabytes",
    }
    converted = convert(peft_folder(tmp_path / "peft", **dangerous), tmp_path / "new", "peft")
    told = " ".join(converted.remarks)
    assert "auto_mapping, megatron_core" in told
    assert "nothing was imported" in told
    assert "somebody/seven-gigabytes" in told
    config = json.loads((tmp_path / "new" / "adapter_config.json").read_text(encoding="utf-8"))
    assert "auto_mapping" not in config
    assert config["megatron_core"] == "megatron.core"


@pytest.mark.parametrize("to", ["diffusers", "kohya"])
def test_a_language_models_adapter_has_no_name_in_formats_for_pictures(tmp_path: Path, to: str) -> None:
    folder = peft_folder(tmp_path / "poet", "transformer.h.0.attn.c_attn")
    with pytest.raises(ReaderError, match="names only for the UNet and the text encoders.*Converted to peft"):
        convert(folder, tmp_path / "new.safetensors", to)


def test_a_base_that_it_is_not_for_is_named(tmp_path: Path) -> None:
    source = save_kohya(tmp_path / "sd1.safetensors", [make("unet", LAYER, (320, 768), 2, 2.0)])
    with pytest.raises(ReaderError, match="is for Stable Diffusion 1.x, the model is Stable Diffusion in miniature"):
        convert(source, tmp_path / "new.safetensors", "diffusers", DATA / "sd")


def test_a_wrong_format_or_kind_of_target_is_said(tmp_path: Path) -> None:
    source = save_kohya(tmp_path / "source.safetensors", [make("unet", LAYER, (320, 768), 2, 2.0)])
    with pytest.raises(UnknownNameError, match="koyha.*kohya"):
        convert(source, tmp_path / "new.safetensors", "koyha")
    with pytest.raises(ReaderError, match="does not end with .safetensors"):
        convert(source, tmp_path / "new", "kohya")
    with pytest.raises(ReaderError, match="is a folder"):
        convert(source, tmp_path / "new.safetensors", "peft")
    assert load_file(source)

"""Every layer of Stable Diffusion gets the name that A1111 and ComfyUI look for, and is found again from it.

With a wrong name a LoRA loads "successfully" and does nothing. kohya's names have underscores where the model has dots,
so the way back is a guess, unless it is right for every layer that there is.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from lora_files import header_of, make, save_kohya
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from aigc_helpers.errors import ReaderError
from aigc_helpers.lora import convert
from aigc_helpers.lora.adapter import read_adapter
from aigc_helpers.lora.names import kohya_name

# Stable Diffusion 1.5 and XL, as their configurations have them; on the meta device, so without numbers.
SD1 = {"cross_attention_dim": 768, "block_out_channels": (320, 640, 1280, 1280)}
SDXL = {
    "cross_attention_dim": 2048,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def layers_of(model: torch.nn.Module) -> list[str]:
    return [name for name, each in model.named_modules() if isinstance(each, (torch.nn.Linear, torch.nn.Conv2d))]


@pytest.fixture(scope="module")
def layers() -> dict[str, list[str]]:
    with torch.device("meta"):
        return {
            "sd1": layers_of(UNet2DConditionModel(**SD1)),
            "sdxl": layers_of(UNet2DConditionModel(**SDXL)),
            "text_encoder": layers_of(CLIPTextModel(CLIPTextConfig())),
            "text_encoder_2": layers_of(CLIPTextModelWithProjection(CLIPTextConfig())),
        }


@pytest.mark.parametrize(
    ("model", "number"), [("sd1", 282), ("sdxl", 794), ("text_encoder", 72), ("text_encoder_2", 73)]
)
def test_every_layer_is_found_again_from_its_kohya_name(
    layers: dict[str, list[str]], tmp_path: Path, model: str, number: int
) -> None:
    component = "unet" if model.startswith("sd") else model
    made = [make(component, name, (2, 2), rank=1, alpha=1.0) for name in layers[model]]
    assert len(made) == number
    path = save_kohya(tmp_path / "all.safetensors", made)
    assert {layer.path for layer in read_adapter(path).layers} == set(layers[model])


def test_the_names_are_those_that_a1111_and_comfyui_look_for(tmp_path: Path) -> None:
    made = [
        make("unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", (4, 768), 1, 1.0),
        make("text_encoder", "encoder.layers.0.self_attn.q_proj", (4, 4), 1, 1.0),
    ]
    source = save_kohya(tmp_path / "source.safetensors", made)
    convert(source, tmp_path / "peft", "peft")
    # As transformers 5 has it, CLIPTextModel has no text_model within.
    inner = load_file(tmp_path / "peft" / "text_encoder" / "adapter_model.safetensors")
    assert "base_model.model.encoder.layers.0.self_attn.q_proj.lora_A.weight" in inner
    convert(tmp_path / "peft", tmp_path / "kohya.safetensors", "kohya")
    assert {name.partition(".")[0] for name in load_file(tmp_path / "kohya.safetensors")} == {
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
    }


def test_xls_two_text_encoders_are_te1_and_te2(tmp_path: Path) -> None:
    made = [
        make("text_encoder", "encoder.layers.0.mlp.fc1", (4, 4), 1, 1.0),
        make("text_encoder_2", "text_model.encoder.layers.0.mlp.fc2", (4, 4), 1, 1.0),
        make("text_encoder_2", "text_projection", (4, 4), 1, 1.0),
    ]
    source = save_kohya(tmp_path / "source.safetensors", made)
    convert(source, tmp_path / "diffusers.safetensors", "diffusers")
    convert(tmp_path / "diffusers.safetensors", tmp_path / "kohya.safetensors", "kohya")
    assert {name.partition(".")[0] for name in load_file(tmp_path / "kohya.safetensors")} == {
        "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        "lora_te2_text_model_encoder_layers_0_mlp_fc2",
        "lora_te2_text_projection",
    }
    assert header_of(tmp_path / "kohya.safetensors")["ss_base_model_version"] == "sdxl_base_v1-0"


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("input_blocks_0_0", "conv_in"),
        ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        (
            "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
        ("input_blocks_7_0_emb_layers_1", "down_blocks.2.resnets.0.time_emb_proj"),
        ("middle_block_0_in_layers_2", "mid_block.resnets.0.conv1"),
        ("output_blocks_5_0_skip_connection", "up_blocks.1.resnets.2.conv_shortcut"),
        ("time_embed_0", "time_embedding.linear_1"),
        ("label_emb_0_2", "add_embedding.linear_2"),
        ("out_2", "conv_out"),
    ],
)
def test_names_of_the_original_xl_repository_are_read(
    layers: dict[str, list[str]], tmp_path: Path, original: str, name: str
) -> None:
    # kohya's trainer names SDXL's UNet so.
    path = save_kohya(tmp_path / "xl.safetensors", [make("unet", original, (2, 2), rank=1, alpha=1.0)])
    (layer,) = read_adapter(path).layers
    assert layer.path == name
    assert name in layers["sdxl"]


def test_a_models_own_names_are_asked_before_the_known_ones(tmp_path: Path) -> None:
    odd = "down_blocks.0.my_part.to_q_too"
    path = save_kohya(tmp_path / "odd.safetensors", [make("unet", odd, (2, 2), rank=1, alpha=1.0)])
    assert [layer.path for layer in read_adapter(path, {"unet": [odd]}).layers] == [odd]
    with pytest.raises(ReaderError, match="down_blocks_0_my_part_to_q_too.*is none of the UNets"):
        read_adapter(path)
    assert kohya_name("unet", odd, is_sdxl=False) == "lora_unet_down_blocks_0_my_part_to_q_too"

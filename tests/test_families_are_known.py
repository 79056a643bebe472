"""A family is told by the names of all layers first, then by what is declared, and by widths only among equal names.

2,048 is the width of Stable Diffusion XL's text, and of LTX-Video: a rule by one width calls each the other, and a file
goes where it does nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from small_weight_files import Tensors, inspect_saved, kohya_lora, zeros
from transformer_models import MODELS, linears

from aigc_helpers.inspection import may_be_same


def lora(layers: dict[str, tuple[int, int]], form: str = "transformer.{}") -> Tensors:
    """Return a LoRA of rank 1 for layers of these outputs and inputs."""
    tensors = {}
    for name, (outputs, inputs) in layers.items():
        stem = form.format(name)
        down, up = ("lora_A", "lora_B") if "." in form else ("lora_down", "lora_up")
        tensors[f"{stem}.{down}.weight"], tensors[f"{stem}.{up}.weight"] = zeros(1, inputs), zeros(outputs, 1)
    return tensors


@pytest.mark.parametrize(("class_name", "settings", "family"), MODELS, ids=[model[0] for model in MODELS])
def test_the_family_is_known_from_the_names_that_diffusers_has(
    tmp_path: Path, class_name: str, settings: dict[str, object], family: str
) -> None:
    layers = {name: (one.out_features, one.in_features) for name, one in linears(class_name, settings).items()}
    assert inspect_saved(tmp_path, lora(layers)).family == family
    flat = {name.replace(".", "_"): sizes for name, sizes in layers.items()}
    assert inspect_saved(tmp_path, lora(flat, "lora_transformer_{}")).family == family


@pytest.mark.parametrize(
    ("form", "layers", "family"),
    [
        # kohya's sd-scripts and musubi-tuner.
        ("lora_unet_{}", {"double_blocks_0_img_mod_lin": (18432, 3072)}, "FLUX.1"),
        ("lora_unet_{}", {"single_blocks_0_linear1": (21504, 3072)}, "Chroma, HunyuanVideo or FLUX.1"),
        ("lora_unet_{}", {"double_blocks_0_img_mlp_0": (12288, 3072)}, "Chroma or FLUX.1"),
        ("lora_unet_{}", {"double_blocks_0_img_mlp_0": (36864, 6144)}, "FLUX.2"),
        ("lora_unet_{}", {"double_blocks_0_img_mlp_fc1": (12288, 3072)}, "HunyuanVideo"),
        ("lora_unet_{}", {"joint_blocks_0_context_block_attn_qkv": (4608, 1536)}, "Stable Diffusion 3"),
        ("lora_unet_{}", {"blocks_0_cross_attn_k": (5120, 5120), "blocks_0_self_attn_q": (5120, 5120)}, "Wan 2.x"),
        ("lora_unet_{}", {"blocks_0_cross_attn_kv_linear": (2304, 1152), "blocks_0_mlp_fc1": (4608, 1152)}, "PixArt"),
        # ComfyUI's names, and ai-toolkit's.
        ("diffusion_model.{}", {"double_blocks.0.img_mod.lin": (18432, 3072)}, "FLUX.1"),
        ("diffusion_model.{}", {"distilled_guidance_layer.layers.0.in_layer": (5120, 5120)}, "Chroma"),
        ("diffusion_model.{}", {"layers.0.attention.qkv": (11520, 3840)}, "Z-Image"),
        ("diffusion_model.{}", {"layers.0.attention.qkv": (3840, 2304)}, "Lumina 2"),
        ("diffusion_model.{}", {"transformer_blocks.0.attn1.to_q": (2048, 2048)}, "LTX-Video"),
        ("transformer.{}", {"blocks.0.attn1.to_q": (1408, 1408), "blocks.0.attn2.to_k": (1408, 1024)}, "HunyuanDiT"),
        # PEFT's.
        ("base_model.model.{}", {"transformer_blocks.0.img_mlp.net.2": (3072, 12288)}, "Qwen-Image"),
        # Nothing that would tell: five families have such a layer of this width.
        ("transformer.{}", {"transformer_blocks.0.attn.to_q": (3072, 3072)}, None),
        ("transformer.{}", {"blocks.0.nobody_has_this": (2048, 2048)}, None),
    ],
)
def test_the_family_is_known_from_the_names_that_trainers_write(
    tmp_path: Path, form: str, layers: dict[str, tuple[int, int]], family: str | None
) -> None:
    assert inspect_saved(tmp_path, lora(layers, form)).family == family


def test_xlabs_names_are_read_and_known(tmp_path: Path) -> None:
    stem = "double_blocks.0.processor.qkv_lora1"
    tensors = {f"{stem}.down.weight": zeros(4, 3072), f"{stem}.up.weight": zeros(9216, 4)}
    inspection = inspect_saved(tmp_path, tensors)
    assert (inspection.kind, inspection.family, inspection.key_format) == ("LoRA", "FLUX.1", "XLabs")


@pytest.mark.parametrize("width", [1024, 2048])
def test_the_width_of_a_transformer_s_text_is_not_that_of_a_unet_s(tmp_path: Path, width: int) -> None:
    layers = {f"transformer_blocks.0.attn2.to_{letter}": (width, width) for letter in "qkv"}
    assert "Stable Diffusion" not in str(inspect_saved(tmp_path, lora(layers)).family)


def test_what_is_declared_chooses_among_what_the_layers_allow(tmp_path: Path) -> None:
    shared = lora({"double_blocks_0_img_mlp_0": (12288, 3072)}, "lora_unet_{}")
    assert inspect_saved(tmp_path, shared, {"modelspec.architecture": "chroma/lora"}).family == "Chroma"
    assert inspect_saved(tmp_path, shared, {"ss_base_model_version": "flux1"}).family == "FLUX.1"
    lie = inspect_saved(tmp_path, shared, {"ss_base_model_version": "sdxl_base_v1-0"})
    assert lie.family == "Chroma or FLUX.1"
    assert "speak of Stable Diffusion XL, but the shapes are those of Chroma or FLUX.1" in " ".join(lie.remarks)


@pytest.mark.parametrize(
    ("key", "value", "family"),
    [
        ("modelspec.architecture", "stable-diffusion-3-medium/lora", "Stable Diffusion 3"),
        ("modelspec.architecture", "Flux.1-dev/lora", "FLUX.1"),
        ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora", "Stable Diffusion XL"),
        ("modelspec.architecture", "stable-diffusion-xl-v1-refiner/lora", "Stable Diffusion XL refiner"),
        ("ss_base_model_version", "sd3m", "Stable Diffusion 3"),
        ("ss_base_model_version", "hunyuan_video", "HunyuanVideo"),
        ("ss_base_model_version", "qwen_image", "Qwen-Image"),
        ("ss_base_model_version", "wan2.1", "Wan 2.x"),
        ("ss_base_model_version", "a_model_of_tomorrow", "a_model_of_tomorrow"),
    ],
)
def test_metadata_are_asked_where_names_say_nothing(tmp_path: Path, key: str, value: str, family: str) -> None:
    assert inspect_saved(tmp_path, lora({"odd.layer": (8, 8)}, "{}"), {key: value}).family == family


def test_text_encoders_tell_apart_what_shares_the_names(tmp_path: Path) -> None:
    single = {"single_transformer_blocks_0_attn_to_k": (3072, 3072)}
    t5 = {"encoder_block_0_layer_0_SelfAttention_k": (4096, 4096)}
    tensors = lora(single, "lora_transformer_{}") | lora(t5, "lora_te2_{}")
    assert inspect_saved(tmp_path, tensors).family == "FLUX.1"
    assert inspect_saved(tmp_path, lora(t5, "lora_te3_{}")).family == "Stable Diffusion 3"


def test_sdxl_s_is_an_architecture_and_not_one_model(tmp_path: Path) -> None:
    assert "Pony, Illustrious and others share it" in " ".join(inspect_saved(tmp_path, kohya_lora(2048)).remarks)
    assert inspect_saved(tmp_path, kohya_lora(768)).remarks == ()


MARKS = [
    (["double_blocks.0.img_mod.lin", "single_blocks.0.linear1", "vector_in.in_layer"], "FLUX.1"),
    (["double_blocks.0.img_attn.qkv", "single_stream_modulation.lin"], "FLUX.2"),
    (["double_blocks.0.img_attn.qkv", "distilled_guidance_layer.in_proj"], "Chroma"),
    (["joint_blocks.0.context_block.attn.qkv", "context_embedder", "pos_embed.proj"], "Stable Diffusion 3"),
    (["transformer_blocks.0.img_mod.1", "txt_in"], "Qwen-Image"),
    (["layers.0.adaLN_modulation.0", "context_refiner.0.attention.qkv"], "Z-Image"),
    (["layers.0.adaLN_modulation.1", "cap_embedder.0", "context_refiner.0.attention.qkv"], "Lumina 2"),
    (["blocks.0.cross_attn.k", "condition_embedder.time_proj"], "Wan 2.x"),
    (["txt_in.individual_token_refiner.blocks.0.a", "single_blocks.0.linear1", "vector_in.in_layer"], "HunyuanVideo"),
    (["blocks.0.mlp.inverted_conv.conv", "y_embedder.y_proj.fc1"], "SANA"),
    (["blocks.0.cross_attn.q_linear", "blocks.0.mlp.fc1", "y_embedder.y_proj.fc1"], "PixArt"),
]


@pytest.mark.parametrize(("names", "family"), MARKS, ids=[family for _, family in MARKS])
def test_checkpoints_are_known_by_their_marks_alone_and_with_all_in_one(
    tmp_path: Path, names: list[str], family: str
) -> None:
    tensors = {f"{name}.weight": zeros(3, 3) for name in names}
    inspection = inspect_saved(tmp_path, tensors)
    assert (inspection.family, inspection.kind) == (family, "diffusion transformer")
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in tensors.items()}
    whole["text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight"] = zeros(3, 3)
    inspection = inspect_saved(tmp_path, whole)
    assert (inspection.family, inspection.kind) == (family, "full checkpoint")


def test_a_text_encoder_beside_an_unknown_model_does_not_give_it_its_family(tmp_path: Path) -> None:
    names = ["model.diffusion_model.odd", "text_encoders.t5.encoder.block.0.layer.0.SelfAttention.q"]
    inspection = inspect_saved(tmp_path, {f"{name}.weight": zeros(3, 3) for name in names})
    assert (inspection.family, inspection.kind) == (None, "full checkpoint")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (
            ["control_model.time_embed.0", "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k"],
            "ControlNet",
        ),
        (["controlnet_cond_embedding.conv_in", "down_blocks.0.resnets.0.conv1", "conv_in"], "ControlNet"),
        (["image_proj.proj", "ip_adapter.1.to_k_ip"], "IP-Adapter"),
        (["adapter.body.0.resnets.0.block1", "adapter.conv_in"], "T2I-Adapter"),
    ],
)
def test_what_is_added_to_a_model_is_no_model(tmp_path: Path, names: list[str], kind: str) -> None:
    assert inspect_saved(tmp_path, {f"{name}.weight": zeros(768, 768) for name in names}).kind == kind


def test_an_answer_that_names_several_agrees_with_each() -> None:
    assert may_be_same("Chroma, HunyuanVideo or FLUX.1", "FLUX.1")
    assert not may_be_same("FLUX.1", "FLUX.2")


def test_relatives_of_lora_without_two_matrices_are_named(tmp_path: Path) -> None:
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    oft = inspect_saved(tmp_path, {f"{stem}.oft_blocks": zeros(20, 64, 64), f"{stem}.alpha": zeros()})
    assert oft.kind == "OFT (orthogonal, no LoRA)"
    kohya = {f"oft_unet_single_blocks_29_linear1.oft_blocks.{number}": zeros(8, 8) for number in range(4)}
    assert inspect_saved(tmp_path, kohya).kind == "OFT (orthogonal, no LoRA)"
    four = {f"{stem}.{part}.weight": zeros(8, 8) for part in ("a1", "a2", "b1", "b2")}
    assert inspect_saved(tmp_path, four).kind == "LyCORIS GLoRA"
    full = inspect_saved(tmp_path, {f"{stem}.diff": zeros(1280, 2048), f"{stem}.diff_b": zeros(1280)})
    assert (full.kind, full.family) == ("LyCORIS full difference", "Stable Diffusion XL")


def test_a_name_that_misleads_is_said_once(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    from aigc_helpers import inspect

    save_file(kohya_lora(768), tmp_path / "style.pt")
    assert sum("'style.safetensors'" in remark for remark in inspect(tmp_path / "style.pt").remarks) == 1

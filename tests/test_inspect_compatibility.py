"""An adapter fits a model, or the report says why it does not: which layer is missing, which width differs.

People install the wrong LoRA, and get pictures without any error.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.numpy import save_file
from small_weight_files import (
    BLOCK,
    Tensors,
    diffusers_folder,
    dora,
    dotted_lora,
    inspect_saved,
    kohya_lora,
    loha,
    lokr,
    unet,
    zeros,
)

from aigc_helpers import inspect
from aigc_helpers.paths import DATA


def fit_with(tmp_path: Path, adapter: Tensors, base: Tensors) -> tuple[bool, str]:
    save_file(base, tmp_path / "base.safetensors")
    found = inspect_saved(tmp_path, adapter, bases=[tmp_path / "base.safetensors"]).compatibility[-1]
    return found.compatible, found.reason


@pytest.mark.parametrize("make", [kohya_lora, loha, lokr, dora])
def test_an_adapter_fits_the_model_with_its_layers_and_widths(tmp_path: Path, make) -> None:
    assert fit_with(tmp_path, make(768), unet(768))[0]
    fits, reason = fit_with(tmp_path, make(2048), unet(768))
    assert not fits
    assert "the adapter is for Stable Diffusion XL, the model is Stable Diffusion 1.x" in reason
    assert "takes in 768 numbers there, and 2048 in the adapter" in reason


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    base = unet(768)
    del base[f"{BLOCK}.attn1.to_q.weight"]
    fits, reason = fit_with(tmp_path, kohya_lora(768), base)
    assert not fits
    assert "it has no layer down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q" in reason


def test_outputs_count_as_well_as_inputs(tmp_path: Path) -> None:
    fits, reason = fit_with(tmp_path, kohya_lora(768), unet(768) | {f"{BLOCK}.attn1.to_q.weight": zeros(640, 320)})
    assert not fits
    assert "gives out 640 numbers there, and 320 in the adapter" in reason


def test_a_convolution_is_compared_with_its_kernel(tmp_path: Path) -> None:
    def conv(kernel: int) -> Tensors:
        return {
            "lora_unet_conv_in.lora_down.weight": zeros(4, 4, kernel, kernel),
            "lora_unet_conv_in.lora_up.weight": zeros(320, 4, 1, 1),
        }

    assert fit_with(tmp_path, conv(3), unet(768))[0]
    assert not fit_with(tmp_path, conv(1), unet(768))[0]


def test_a_convolution_s_kernel_may_stand_in_a_third_matrix(tmp_path: Path) -> None:
    locon = {
        "lora_unet_conv_in.lora_down.weight": zeros(4, 4, 1, 1),
        "lora_unet_conv_in.lora_mid.weight": zeros(4, 4, 3, 3),
        "lora_unet_conv_in.lora_up.weight": zeros(320, 4, 1, 1),
    }
    assert fit_with(tmp_path, locon, unet(768))[0]
    tucker = {
        "lora_unet_conv_in.hada_t1": zeros(8, 8, 3, 3),
        "lora_unet_conv_in.hada_w1_a": zeros(8, 320),
        "lora_unet_conv_in.hada_w1_b": zeros(8, 4),
        "lora_unet_conv_in.hada_t2": zeros(8, 8, 3, 3),
        "lora_unet_conv_in.hada_w2_a": zeros(8, 320),
        "lora_unet_conv_in.hada_w2_b": zeros(8, 4),
    }
    assert fit_with(tmp_path, tucker, unet(768))[0]


def test_old_attention_processors_leave_out_a_number_that_the_model_has(tmp_path: Path) -> None:
    name = f"unet.{BLOCK}.attn1.processor.to_out_lora"
    adapter = {f"{name}.down.weight": zeros(4, 320), f"{name}.up.weight": zeros(320, 4)}
    assert fit_with(tmp_path, adapter, unet(768) | {f"{BLOCK}.attn1.to_out.0.weight": zeros(320, 320)})[0]


def test_an_embedding_is_multiplied_the_other_way_round(tmp_path: Path) -> None:
    name = "base_model.model.bert.embeddings.word_embeddings"
    adapter = {f"{name}.lora_embedding_A": zeros(4, 1000), f"{name}.lora_embedding_B": zeros(384, 4)}
    assert fit_with(tmp_path, adapter, {"embeddings.word_embeddings.weight": zeros(1000, 384)})[0]
    assert not fit_with(tmp_path, adapter, {"embeddings.word_embeddings.weight": zeros(384, 1000)})[0]


def test_a_checkpoint_in_the_original_layout_is_compared_by_its_width(tmp_path: Path) -> None:
    name = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    base = {name: zeros(320, 768), "first_stage_model.decoder.conv_in.weight": zeros(4, 4, 3, 3)}
    fits, reason = fit_with(tmp_path, kohya_lora(768), base)
    assert fits and "both are Stable Diffusion 1.x" in reason
    assert not fit_with(tmp_path, kohya_lora(2048), base)[0]
    assert inspect(tmp_path / "base.safetensors").kind == "full checkpoint"


def test_in_the_original_layout_names_are_compared_where_the_adapter_has_it_too(tmp_path: Path) -> None:
    # kohya's trainer names the layers of SDXL so.
    layer = "input_blocks.4.1.transformer_blocks.0.attn2.to_k"
    name = "lora_unet_" + layer.replace(".", "_")
    adapter = {f"{name}.lora_down.weight": zeros(4, 2048), f"{name}.lora_up.weight": zeros(640, 4)}
    base = {f"model.diffusion_model.{layer}.weight": zeros(640, 2048), "conditioner.embedders.1.a": zeros(1)}
    assert fit_with(tmp_path, adapter, base) == (True, "all 1 layers are there, with equal widths")
    second = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
    both = adapter | {f"{second}.lora_down.weight": zeros(4, 1280), f"{second}.lora_up.weight": zeros(1280, 4)}
    fits, reason = fit_with(tmp_path, both, base)
    assert fits and "a text encoder was not compared" in reason
    other = {name.replace("input_blocks.4", "input_blocks.5"): tensor for name, tensor in base.items()}
    assert "it has no layer input_blocks_4_1" in fit_with(tmp_path, adapter, other)[1]


def test_a_pipeline_is_no_base_for_a_language_model_s_adapter(tmp_path: Path) -> None:
    found = inspect(DATA / "film_adapter", bases=[diffusers_folder(tmp_path)]).compatibility[-1]
    assert not found.compatible
    assert "a pipeline of several models" in found.reason


def test_a_unet_s_adapter_in_peft_s_names_fits_the_pipeline(tmp_path: Path) -> None:
    adapter = dotted_lora("base_model.model.", ".lora_A.weight", ".lora_B.weight")
    assert inspect_saved(tmp_path, adapter, bases=[diffusers_folder(tmp_path / "sd")]).compatibility[-1].compatible


def test_gpt2_stores_its_matrices_the_other_way_round(tmp_path: Path) -> None:
    name = "base_model.model.transformer.h.0.attn.c_attn"
    adapter = {f"{name}.lora_A.weight": zeros(8, 256), f"{name}.lora_B.weight": zeros(768, 8)}
    save_file(adapter, tmp_path / "adapter_model.safetensors")
    compared = {each.model: each for each in inspect(tmp_path / "adapter_model.safetensors").compatibility}
    assert compared["poet"].compatible
    assert not compared["clip"].compatible
    assert "the adapter is for GPT-2, the model is CLIP" in compared["clip"].reason


def test_a_base_that_cannot_be_read_does_not_fit_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_bytes(b"<html>")
    found = inspect_saved(tmp_path, kohya_lora(768), bases=[tmp_path / "page.safetensors"]).compatibility[-1]
    assert not found.compatible and "a web page" in found.reason


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
SETTINGS = (
    "r",
    "lora_alpha",
    "alpha_pattern",
    "rank_pattern",
    "megatron_core",
    "auto_mapping",
    "peft_type",
    "task_type",
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(SETTINGS), JSON_VALUES))
def test_no_configuration_stops_the_report(tmp_path: Path, config: dict[str, object]) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = dotted_lora("base_model.model.", ".lora_A.weight", ".lora_B.weight")
    metadata = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in config.items()})}
    save_file(tensors, tmp_path / "adapter_model.safetensors", metadata)
    json.dumps(asdict(inspect(tmp_path)), default=str)


LLAMA = "model.layers.0.self_attn.q_proj"


def peft_adapter(outputs: int = 256) -> Tensors:
    stem = f"base_model.model.{LLAMA}"
    return {f"{stem}.lora_A.weight": zeros(8, 256), f"{stem}.lora_B.weight": zeros(outputs, 8)}


@pytest.mark.parametrize(
    "base",
    [
        {f"{LLAMA}.weight": np.zeros((256 * 128, 1), "u1"), f"{LLAMA}.weight.absmax": np.zeros(1024, "u1")},
        {f"{LLAMA}.qweight": np.zeros((32, 256), "i4"), f"{LLAMA}.scales": zeros(2, 256)},
        {f"{LLAMA}.weight_packed": np.zeros((256, 32), "i4"), f"{LLAMA}.weight_scale": zeros(256, 2)},
    ],
    ids=["bitsandbytes", "GPTQ and AWQ", "compressed-tensors"],
)
def test_widths_of_packed_weights_are_not_compared(tmp_path: Path, base: Tensors) -> None:
    fits, reason = fit_with(tmp_path, peft_adapter(), base)
    assert fits and "1 are packed there (quantised), and their widths were not compared" in reason
    assert "equal widths" not in reason
    other = {name.replace("layers.0", "layers.1"): tensor for name, tensor in base.items()}
    assert "it has no layer" in fit_with(tmp_path, peft_adapter(), other)[1]


def test_whole_numbers_that_are_not_packed_are_compared(tmp_path: Path) -> None:
    base = {f"{LLAMA}.weight": np.zeros((256, 256), "i1"), f"{LLAMA}.SCB": zeros(256)}
    assert fit_with(tmp_path, peft_adapter(), base) == (True, "all 1 layers are there, with equal widths")
    assert not fit_with(tmp_path, peft_adapter(64), base)[0]


def test_layers_that_a_model_s_class_has_renamed_are_found_under_the_other_name(tmp_path: Path) -> None:
    base = {
        "model.language_model.layers.0.self_attn.q_proj.weight": zeros(256, 256),
        "model.visual.a.weight": zeros(2, 2),
    }
    fits, reason = fit_with(tmp_path, peft_adapter(), base)
    assert not fits and "its layers are there under other names" in reason
    assert "it has no layer" in fit_with(tmp_path, peft_adapter(64), base)[1]


def test_what_has_no_widths_is_not_said_to_have_equal_ones(tmp_path: Path) -> None:
    oft = {f"lora_unet_{BLOCK.replace('.', '_')}_attn2_to_k.oft_blocks": zeros(20, 64, 64)}
    fits, reason = fit_with(tmp_path, oft, unet(768))
    assert fits and "equal" not in reason and "were not compared" in reason


def test_diffusers_names_and_the_original_s_are_not_compared_but_the_families_are(tmp_path: Path) -> None:
    original = {f"lora_unet_double_blocks_0_img_mod_lin.lora_{part}.weight": zeros(2, 2) for part in ("down", "up")}
    original["lora_unet_double_blocks_0_img_mod_lin.lora_down.weight"] = zeros(2, 3072)
    original["lora_unet_double_blocks_0_img_mod_lin.lora_up.weight"] = zeros(18432, 2)
    flux = {
        "transformer_blocks.0.norm1_context.linear.weight": zeros(18432, 1),
        "single_transformer_blocks.0.proj_mlp.weight": zeros(3, 3),
        "time_text_embed.text_embedder.linear_1.weight": zeros(3, 3),
    }
    assert fit_with(tmp_path, original, flux) == (
        True,
        "both are FLUX.1; layers were not compared, for the two name them differently",
    )
    # Named alike, a missing layer is missing; also in a file that holds all of a pipeline.
    same = {
        "double_blocks.1.img_mod.lin.weight": zeros(18432, 3072),
        "single_blocks.0.linear1.weight": zeros(3, 3),
        "vector_in.in_layer.weight": zeros(3, 3),
    }
    for base in (same, {f"model.diffusion_model.{name}": tensor for name, tensor in same.items()}):
        fits, reason = fit_with(tmp_path, original, base)
        assert not fits
        assert "it has no layer double_blocks_0_img_mod_lin" in reason
        name = next(iter(base))
        whole = base | {name.replace(".1.", ".0."): base[name]}
        assert fit_with(tmp_path, original, whole) == (True, "all 1 layers are there, with equal widths")

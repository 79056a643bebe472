"""What a weight file is can be told from its header: which format, which family, which settings, what it fits.

People install the wrong LoRA, or one whose alpha is lost, and get pictures without any error. The report must say it.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import DATA
from aigc_helpers.weights.inspect import Inspection, inspect
from aigc_helpers.weights.safetensors_header import read_header
from aigc_helpers.weights.safetensors_values import read_number

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


# --- adapters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensors", "key_format"),
    [
        (kohya_lora(768), "kohya"),
        (dotted_lora("unet.", ".lora_A.weight", ".lora_B.weight"), "diffusers"),
        (dotted_lora("unet.", ".lora.down.weight", ".lora.up.weight"), "diffusers legacy"),
        (dotted_lora("", ".lora_A.weight", ".lora_B.weight"), "unprefixed (save_lora_adapter)"),
        (dotted_lora("base_model.model.", ".lora_A.weight", ".lora_B.weight"), "PEFT"),
        (
            {
                f"unet.{BLOCK}.attn2.processor.to_k_lora.down.weight": zeros(4, 768),
                f"unet.{BLOCK}.attn2.processor.to_k_lora.up.weight": zeros(320, 4),
            },
            "diffusers legacy",
        ),
    ],
)
def test_the_program_that_wrote_a_lora_is_known_by_its_names(tmp_path: Path, tensors: Tensors, key_format: str) -> None:
    inspection = inspect_saved(tmp_path, tensors)
    assert (inspection.kind, inspection.key_format) == ("LoRA", key_format)
    assert inspection.family == "Stable Diffusion 1.x"
    assert inspection.adapter.ranks == {4: inspection.adapter.modules}


@pytest.mark.parametrize(
    ("width", "family"),
    [
        (128, "Stable Diffusion in miniature"),
        (768, "Stable Diffusion 1.x"),
        (1024, "Stable Diffusion 2.x"),
        (2048, "Stable Diffusion XL"),
        (999, None),
    ],
)
def test_the_width_of_cross_attention_tells_the_family_of_lora_and_unet(
    tmp_path: Path, width: int, family: str | None
) -> None:
    assert inspect_saved(tmp_path, kohya_lora(width)).family == family
    whole = inspect_saved(tmp_path, unet(width))
    assert whole.family == family
    assert whole.kind == "UNet"


def test_where_shapes_do_not_tell_the_metadata_do_and_contradictions_are_remarked(tmp_path: Path) -> None:
    conv = {
        "lora_unet_conv_in.lora_down.weight": zeros(4, 4, 3, 3),
        "lora_unet_conv_in.lora_up.weight": zeros(320, 4, 1, 1),
    }
    assert inspect_saved(tmp_path, conv, {"ss_base_model_version": "sd_v2_768_v"}).family == "Stable Diffusion 2.x"
    assert inspect_saved(tmp_path, conv, {"modelspec.architecture": "flux-1-dev/lora"}).family == "flux-1-dev/lora"
    wrong = inspect_saved(tmp_path, kohya_lora(768), {"ss_base_model_version": "sdxl_base_v1-0"})
    assert wrong.family == "Stable Diffusion 1.x"
    assert any("speak of Stable Diffusion XL, but the shapes are those of" in remark for remark in wrong.remarks)


def test_ranks_and_alphas_are_counted_per_layer(tmp_path: Path) -> None:
    inspection = inspect_saved(tmp_path, kohya_lora(768, ranks=(4, 16), alphas=(1, 8)))
    assert inspection.adapter.ranks == {4: 1, 16: 1}
    assert inspection.adapter.alphas == {1.0: 1, 8.0: 1}
    assert any("Alphas differ per layer" in remark for remark in inspection.remarks)
    assert inspection.adapter.layers == {"UNet down_blocks": {"attn1.to_q": 1, "attn2.to_k": 1}}


def test_alphas_that_do_not_differ_are_no_remark(tmp_path: Path) -> None:
    assert inspect_saved(tmp_path, kohya_lora(768)).remarks == ()


def test_an_alpha_of_0_is_remarked(tmp_path: Path) -> None:
    assert "read it as alpha = rank" in " ".join(inspect_saved(tmp_path, kohya_lora(768, alphas=(0, 0))).remarks)


def bfloat16_file(path: Path, name: str, upper_halves: list[int], shape: list[int]) -> Path:
    """Write one tensor of bfloat16, which are the upper halves of float32; numpy has no such type."""
    raw = struct.pack(f"<{len(upper_halves)}H", *upper_halves)
    header = json.dumps({name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, len(raw)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw)
    return path


def test_numbers_in_bfloat16_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = read_header(bfloat16_file(path, "x.alpha", [0x4100], []))
    assert read_number(path, header, header.tensors["x.alpha"]) == 8.0
    for wrong in (0x7F80, 0xFF80, 0x7FC0):
        bfloat16_file(path, "a", [0x7F7F, wrong, 0x0001], [3])
        assert "1 of the numbers in 'a'" in " ".join(inspect(path, read_numbers=True).remarks)


def test_alpha_of_a_diffusers_file_stands_in_its_metadata_or_nowhere(tmp_path: Path) -> None:
    tensors = dotted_lora("unet.", ".lora_A.weight", ".lora_B.weight")
    without = inspect_saved(tmp_path, tensors)
    assert without.adapter.alphas == {}
    assert any("No alpha stands here" in remark for remark in without.remarks)
    config = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {}}
    told = inspect_saved(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(config)})
    assert told.adapter.alphas == {8.0: 1}
    assert told.training == {"rank of unet": "4", "alpha of unet": "8"}
    assert told.remarks == ()


def test_alphas_of_a_peft_folder_come_from_its_configuration_and_its_patterns(tmp_path: Path) -> None:
    names = [f"base_model.model.bert.encoder.layer.{layer}.attention.self.query" for layer in range(3)]
    tensors = {f"{name}.lora_A.weight": zeros(4, 384) for name in names}
    tensors |= {f"{name}.lora_B.weight": zeros(384, 4) for name in names}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "alpha_pattern": {"layer.1.attention.self.query": 32}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        assert inspect(path).adapter.alphas == {8.0: 2, 32.0: 1}
    assert inspect(tmp_path).container == "PEFT folder"
    assert inspect(tmp_path).remarks == ()
    config |= {"r": 8, "auto_mapping": {"base_model_class": "X"}, "megatron_core": "os"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    text = " ".join(inspect(tmp_path).remarks)
    assert "auto_mapping" in text and "'os'" in text and "says rank 8, the matrices have [4]" in text


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


@pytest.mark.parametrize(
    ("make", "kind", "rank", "remark"),
    [
        (loha, "LyCORIS LoHa", 8, "diffusers does not load LoHa"),
        (lokr, "LyCORIS LoKr", 4, None),
        (dora, "DoRA", 4, "drops DoRA's magnitudes"),
    ],
)
def test_relatives_of_lora_are_told_apart(tmp_path: Path, make, kind: str, rank: int, remark: str | None) -> None:
    inspection = inspect_saved(tmp_path, make(2048))
    assert (inspection.kind, inspection.family) == (kind, "Stable Diffusion XL")
    assert set(inspection.adapter.ranks) == {rank}
    assert (remark in " ".join(inspection.remarks)) if remark else not inspection.remarks


def test_the_second_text_encoder_s_names_tell_sdxl(tmp_path: Path) -> None:
    name = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
    tensors = {f"{name}.lora_down.weight": zeros(4, 1280), f"{name}.lora_up.weight": zeros(1280, 4)}
    assert inspect_saved(tmp_path, tensors).family == "Stable Diffusion XL"


def test_matrices_that_are_missing_or_do_not_fit_each_other_are_remarked(tmp_path: Path) -> None:
    tensors = kohya_lora(768)
    del tensors[f"{KOHYA_BLOCK}_attn1_to_q.lora_up.weight"]
    tensors[f"{KOHYA_BLOCK}_attn2_to_k.lora_up.weight"] = zeros(320, 5)
    text = " ".join(inspect_saved(tmp_path, tensors).remarks)
    assert "1 of 2 layers lack a matrix" in text and "attn1_to_q' (no up)" in text
    assert "cannot be multiplied" in text and "rank 4, the other 5" in text


def test_text_encoder_names_that_a1111_does_not_find_are_remarked(tmp_path: Path) -> None:
    name = "lora_te1_encoder_layers_0_self_attn_q_proj"
    tensors = {f"{name}.lora_down.weight": zeros(4, 768), f"{name}.lora_up.weight": zeros(768, 4)}
    inspection = inspect_saved(tmp_path, tensors | {f"{name}.alpha": np.array(4, "f4")})
    assert "A1111 and ComfyUI do not find these layers" in " ".join(inspection.remarks)
    assert inspection.adapter.layers == {"text encoder encoder_layers": {"self_attn.q_proj": 1}}


def test_training_metadata_are_said_in_plain_words_and_cannot_rule_the_terminal(tmp_path: Path) -> None:
    metadata = {
        "ss_network_dim": "4",
        "ss_learning_rate": "None",
        "ss_training_started_at": "1700000000.5",
        "ss_tag_frequency": json.dumps({"10_cat": {"cat": 20, "sofa ": 5}, "5_dog": {"cat": 1}}),
        "ss_training_comment": "fine\x1b[2J\nline" + "x" * 1000,
        "sshs_legacy_hash": "00",
    }
    training = inspect_saved(tmp_path, kohya_lora(768), metadata).training
    comment = training.pop("comment")
    assert training == {
        "rank asked for": "4",
        "training began": "2023-11-14 22:13 UTC",
        "most frequent tags": "cat 21, sofa 5",
    }
    assert "\x1b" not in comment and "\n" not in comment and len(comment) < 250


# --- what an adapter fits ---------------------------------------------------------------------------------------------


def fit_with(tmp_path: Path, adapter: Tensors, base: Tensors) -> tuple[bool, str]:
    save_file(base, tmp_path / "base.safetensors")
    fit = inspect_saved(tmp_path, adapter, bases=[tmp_path / "base.safetensors"]).fits[-1]
    return fit.fits, fit.reason


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
    fit = inspect(DATA / "film_adapter", bases=[diffusers_folder(tmp_path)]).fits[-1]
    assert not fit.fits
    assert "a pipeline of several models" in fit.reason


def test_a_unet_s_adapter_in_peft_s_names_fits_the_pipeline(tmp_path: Path) -> None:
    adapter = dotted_lora("base_model.model.", ".lora_A.weight", ".lora_B.weight")
    assert inspect_saved(tmp_path, adapter, bases=[diffusers_folder(tmp_path / "sd")]).fits[-1].fits


def test_gpt2_stores_its_matrices_the_other_way_round(tmp_path: Path) -> None:
    name = "base_model.model.transformer.h.0.attn.c_attn"
    adapter = {f"{name}.lora_A.weight": zeros(8, 256), f"{name}.lora_B.weight": zeros(768, 8)}
    save_file(adapter, tmp_path / "adapter_model.safetensors")
    fits = {fit.model: fit for fit in inspect(tmp_path / "adapter_model.safetensors").fits}
    assert fits["poet"].fits
    assert not fits["clip"].fits
    assert "the adapter is for GPT-2, the model is CLIP" in fits["clip"].reason


def test_a_base_that_cannot_be_read_does_not_fit_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_bytes(b"<html>")
    fit = inspect_saved(tmp_path, kohya_lora(768), bases=[tmp_path / "page.safetensors"]).fits[-1]
    assert not fit.fits and "a web page" in fit.reason


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


# --- models and their parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "kind", "family"),
    [
        (["encoder.block.0.layer.0.SelfAttention.q.weight", "decoder.block.0.layer.0.SelfAttention.q.weight"],
         "full checkpoint", "T5"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight"], "text encoder", "T5"),
        (["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight"], "full checkpoint", "Llama"),
        (["bert.encoder.layer.0.attention.self.query.weight"], "full checkpoint", "BERT"),
        (["text_model.encoder.layers.0.self_attn.q_proj.weight"], "text encoder", "CLIP"),
        (["embeddings.token_embedding.weight", "encoder.layers.0.self_attn.q_proj.weight"], "text encoder", "CLIP"),
        (["encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.up_blocks.0.resnets.0.conv1.weight"], "VAE", None),
        (["first_stage_model.encoder.conv_in.weight"], "VAE", None),
        (["something.else.weight", "something.more.weight"], None, None),
    ],
)  # fmt: skip
def test_models_are_known_by_the_names_of_their_layers(
    tmp_path: Path, names: list[str], kind: str | None, family: str | None
) -> None:
    inspection = inspect_saved(tmp_path, {name: zeros(3, 3) for name in names})
    assert (inspection.kind, inspection.family) == (kind, family)


@pytest.mark.parametrize(
    ("tensors", "family"),
    [
        ({"emb_params": zeros(2, 768)}, "Stable Diffusion 1.x"),
        ({"<cat>": zeros(1024)}, "Stable Diffusion 2.x"),
        ({"clip_g": zeros(2, 1280), "clip_l": zeros(2, 768)}, "Stable Diffusion XL"),
    ],
)
def test_textual_inversions(tmp_path: Path, tensors: Tensors, family: str) -> None:
    inspection = inspect_saved(tmp_path, tensors)
    assert (inspection.kind, inspection.family) == ("textual inversion", family)


def test_the_configuration_tells_models_apart_that_name_their_layers_alike(tmp_path: Path) -> None:
    save_file({"model.layers.0.self_attn.q_proj.weight": zeros(3, 3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    assert (inspect(tmp_path).family, inspect(tmp_path).container) == ("mistral", "transformers folder")


def test_the_models_that_ship_here() -> None:
    film, poet, clip = (inspect(DATA / name) for name in ("film_adapter", "poet", "clip"))
    assert (film.kind, film.key_format, film.family) == ("LoRA", "PEFT", "BERT")
    assert (film.adapter.ranks, film.adapter.alphas) == ({8: 12}, {16.0: 12})
    assert film.adapter.whole_layers == ("base_model.model.classifier.bias", "base_model.model.classifier.weight")
    assert not any(fit.fits for fit in film.fits if fit.model in ("poet", "clip"))
    assert (poet.kind, poet.family, poet.parameters) == ("full checkpoint", "GPT-2", 4_429_568)
    assert (clip.kind, clip.family, clip.dtypes) == ("full checkpoint", "CLIP", {"F16": 126})


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


def test_a_diffusers_folder_is_read_by_its_components(tmp_path: Path) -> None:
    folder = diffusers_folder(tmp_path / "sd")
    inspection = inspect(folder)
    assert (inspection.container, inspection.kind) == ("diffusers folder", "full checkpoint")
    assert (inspection.family, inspection.tensors) == ("Stable Diffusion 1.x", 5)
    fits = inspect_saved(tmp_path, kohya_lora(768), bases=[folder]).fits
    assert fits[-1].fits
    name = "lora_te2_text_model_a"
    for_two = {f"{name}.lora_down.weight": zeros(4, 3), f"{name}.lora_up.weight": zeros(3, 4)}
    assert inspect_saved(tmp_path, for_two, bases=[folder]).fits[-1].reason == "it has no second text encoder"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"readme.txt": b"x"}, "holds no weight file"),
        ({"a.safetensors": b"", "b.safetensors": b""}, "holds 2 weight files: a.safetensors, b.safetensors"),
        ({"a.safetensors": b"", "m.index.json": b'{"weight_map": {"x": "b.safetensors"}}'}, "which is not there"),
        ({"a.safetensors": b"", "m.index.json": b'{"weight_map": {"x": "../b.safetensors"}}'}, "outside its folder"),
        ({"model_index.json": b'{"../unet": ["a", "b"]}'}, "outside its folder"),
        ({"model_index.json": b'{"..": ["a", "b"]}'}, "outside its folder"),
        ({"model_index.json": b"{"}, "not valid JSON"),
        ({"model_index.json": b"[]"}, "but no object"),
        ({"model_index.json": b"{}"}, "without any weights"),
    ],
)
def test_a_faulty_folder_is_refused_by_its_fault(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ReaderError, match=words):
        inspect(tmp_path)


# --- reading the numbers, on request ----------------------------------------------------------------------------------


def test_hashes_are_those_of_the_file_and_of_all_after_the_header(tmp_path: Path) -> None:
    content = {"emb_params": np.arange(1536, dtype="f4").reshape(2, 768)}
    hashes = inspect_saved(tmp_path, content, read_numbers=True).hashes["some.safetensors"]
    assert hashes["sha256"] == sha256((tmp_path / "some.safetensors").read_bytes()).hexdigest()
    assert hashes["sshs_model_hash"] == sha256(content["emb_params"].tobytes()).hexdigest()
    stale = inspect_saved(tmp_path, content, {"sshs_model_hash": "0" * 64}, read_numbers=True)
    assert "not those that the trainer hashed" in " ".join(stale.remarks)
    right = inspect_saved(tmp_path, content, {"sshs_model_hash": hashes["sshs_model_hash"]}, read_numbers=True)
    assert right.remarks == ()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_found(tmp_path: Path, dtype: str, value: float) -> None:
    numbers = np.linspace(-6e4, 6e4, 1536).astype(dtype)
    assert inspect_saved(tmp_path, {"<a>": numbers.reshape(2, 768)}, read_numbers=True).remarks == ()
    numbers[700] = value
    (remark,) = inspect_saved(tmp_path, {"<a>": numbers.reshape(2, 768)}, read_numbers=True).remarks
    assert "1 of the numbers in '<a>' are NaN or infinite" in remark


def test_a_header_alone_is_read_from_a_file_of_four_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    size = 4_000_000_000
    raw = json.dumps({f"{BLOCK}.attn2.to_k.weight": {"dtype": "U8", "shape": [10**6, 4000], "data_offsets": [0, size]}})
    path.write_bytes(struct.pack("<Q", len(raw)) + raw.encode())
    with path.open("rb+") as opened:
        opened.truncate(8 + len(raw) + size)  # Sparse: it takes no disk.
    tracemalloc.start()
    try:
        assert inspect(path).parameters == size
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_neither_torch_nor_transformers_is_imported() -> None:
    program = (
        "import sys; from aigc_helpers.cli import main; "
        f"main(['inspect', {str(DATA / 'film_adapter')!r}]); "
        "print(*{'torch', 'transformers', 'diffusers', 'peft', 'pandas'} & set(sys.modules), file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stderr.split() == []


# --- GGUF and HDF5 ----------------------------------------------------------------------------------------------------


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


def test_gguf_is_read_as_far_as_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf())
    inspection = inspect(path)
    assert (inspection.container, inspection.family, inspection.kind) == ("GGUF", "Llama", "full checkpoint")
    assert (inspection.parameters, inspection.dtypes) == (68, {"Q4_0": 1, "F32": 1})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(4, len(gguf()) - 1), st.integers(0, 255)), max_size=4), st.integers(5, 400))
def test_a_changed_or_cut_gguf_is_refused_or_read(tmp_path: Path, changes: list[tuple[int, int]], kept: int) -> None:
    content = bytearray(gguf())
    for place, value in changes:
        content[place] = value
    path = tmp_path / "model.gguf"
    path.write_bytes(content[:kept])
    try:
        inspect(path)
        assert changes or kept >= len(content)
    except ReaderError as error:
        assert str(error).startswith(f"{path} is no valid GGUF file")


def test_hdf5_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert inspect(path).container == "HDF5"


# --- pickles, which are never run -------------------------------------------------------------------------------------


class Payload:
    """Unpickled, it calls a function. Harmless here: it would only create a file."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def torch_zip(path: Path, value: object, protocol: int = 2) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol))
        archive.writestr("archive/version", "3\n")
    return path


def payloads(marker: Path) -> dict[str, object]:
    import importlib
    import os

    return {
        "posix.system": Payload(os.system, f"touch {marker}"),
        "builtins.exec": Payload(exec, f"open({str(marker)!r}, 'w')"),
        "importlib.import_module": Payload(importlib.import_module, "this"),
        "builtins.getattr": Payload(getattr, "x", "y"),
    }


@pytest.mark.skipif(sys.platform == "win32", reason="os.system is nt.system there")
@pytest.mark.parametrize("name", ["posix.system", "builtins.exec", "importlib.import_module", "builtins.getattr"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_not_run(
    tmp_path: Path, name: str, protocol: int, zipped: bool
) -> None:
    marker, path = tmp_path / "was_run", tmp_path / "model.ckpt"
    value = {"state_dict": {"a": 1}, "more": payloads(marker)[name]}
    if zipped:
        torch_zip(path, value, protocol)
    else:
        path.write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(ReaderError, match=f"unsafe.*{name.replace('builtins', '(builtins|__builtin__)')}"):
        inspect(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        # The name comes out of the memo, where a scanner that looks at the strings before the opcode misses it.
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.", "os.system"),
        # The module's name is what a call returns.
        (b"\x80\x04c_codecs\nencode\n\x8c\x02os\x85R\x8c\x06system\x93.", "computed while the pickle runs"),
        (b"\x80\x02\x82\x01.", "extension registry"),
        # Damaged after the import: Python would have run it by then.
        (b"\x80\x02cos\nsystem\nU\x02lsR\xff\xff", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R", "os.system"),
        (b"(S'ls'\nios\nsystem\n.", "os.system"),
        (b"\x80\x02(cos\nsystem\nU\x02lso.", "os.system"),
    ],
)
def test_ways_to_hide_an_import_do_not_hide_it(tmp_path: Path, program: bytes, words: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(program)
    with pytest.raises(ReaderError, match=f"unsafe.*{words}"):
        inspect(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_file_that_torch_wrote_is_read_without_torch(tmp_path: Path, torch, legacy: bool) -> None:
    weights = torch.nn.ParameterDict({"conv_in": torch.zeros(3, 2)}).state_dict()
    weights[f"{BLOCK}.attn2.to_k.weight"] = torch.zeros(320, 768, dtype=torch.bfloat16)
    weights["up_blocks.0"] = torch.nn.Parameter(torch.zeros(5))
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": weights, "epoch": 3}, path, _use_new_zipfile_serialization=not legacy)
    inspection = inspect(path)
    assert inspection.container == ("legacy pickle" if legacy else "torch zip")
    assert (inspection.family, inspection.kind) == ("Stable Diffusion 1.x", "UNet")
    assert (inspection.tensors, inspection.parameters) == (3, 6 + 320 * 768 + 5)
    assert inspection.dtypes == {"F32": 2, "BF16": 1}
    assert "torch._utils._rebuild_tensor_v2" in inspection.imports


def test_numpy_scalars_and_arrays_are_admitted(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "model.pt", {"loss": np.float64(0.5), "array": np.zeros(3)})
    assert any(name.endswith("multiarray.scalar") for name in inspect(path).imports)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.npy": b""}, "a NumPy archive of 1 files"),
        ({"model.safetensors": b"x", "readme.md": b"y"}, "a zip archive of 2 files"),
        ({"archive/data.pkl": b"\x80\x02\xff"}, "no valid pickle"),
        ({"archive/data.pkl": b""}, "no valid pickle"),
    ],
)
def test_zips_that_are_no_torch_files_are_called_what_they_are(
    tmp_path: Path, members: dict[str, bytes], words: str
) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ReaderError, match=words):
        inspect(path)


def test_a_cut_torch_zip_is_refused(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "model.pt", {"a": 1})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ReaderError, match="a zip that cannot be read"):
        inspect(path)


def test_a_zip_with_an_endless_list_of_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    size = 21_000_000
    with path.open("wb") as opened:
        opened.write(b"PK\x03\x04")
        opened.truncate(size)
        opened.seek(size)
        opened.write(b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 9, 9, size - 4, 4, 0))
    with pytest.raises(ReaderError, match="list of members is longer"):
        inspect(path)


def test_a_pickle_longer_than_any_of_torch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x" * 100)
    with pytest.raises(ReaderError, match="more than 20,000,000 bytes"):
        inspect(path)


def test_a_pickle_packed_into_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as opened:
        for _ in range(21):
            opened.write(bytes(1_000_000))
    with pytest.raises(ReaderError, match="21,000,000 bytes"):
        inspect(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.sampled_from([b"", b"\x80\x02", b"\x80\x04"]))
def test_any_pickle_is_refused_or_read(tmp_path: Path, content: bytes, beginning: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(beginning + content)
    try:
        inspect(path)
    except ReaderError as error:
        assert str(error).startswith(str(path))


def test_dictionaries_inside_each_other_do_not_take_for_ever(tmp_path: Path) -> None:
    # Each level holds the one below a thousand times: walked naively, these are 10**12 steps.
    level: dict[str, object] = {}
    for _ in range(4):
        level = {str(number): level for number in range(1000)}
    buffer = io.BytesIO()
    pickle.Pickler(buffer, 4).dump(level)
    path = tmp_path / "model.bin"
    path.write_bytes(buffer.getvalue())
    assert inspect(path).tensors == 0

"""What an adapter is can be told from its header: who wrote it, its ranks and alphas, what it was trained with.

People install a LoRA whose alpha is lost, and get pictures without any error. The report must say it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_weight_files import (
    BLOCK,
    KOHYA_BLOCK,
    Tensors,
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
from aigc_helpers.formats import read_header, read_numbers


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
    assert inspect_saved(tmp_path, conv, {"modelspec.architecture": "flux-1-dev/lora"}).family == "FLUX.1"
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
    assert read_numbers(path, header, ["x.alpha"]) == {"x.alpha": 8.0}
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
    text = " ".join(inspection.remarks)
    assert "Pony, Illustrious and others share it" in text
    assert (remark in text) if remark else len(inspection.remarks) == 1


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

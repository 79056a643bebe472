"""Files as users reported them to other projects (names and shapes only): what each needs is what happens.

Most reports are rows of the tests that are named after their rule; here stand those whose whole file matters.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aigc_helpers import convert, inspect, install
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.lora.conversion import FORMATS

POET = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["c_attn"], "fan_in_fan_out": True}
POET |= {"task_type": "CAUSAL_LM", "bias": "none"}


def pair(stem: str, outputs: int, inputs: int, rank: int = 8) -> dict[str, torch.Tensor]:
    return {f"{stem}.lora_A.weight": torch.randn(rank, inputs), f"{stem}.lora_B.weight": torch.randn(outputs, rank)}


def saved(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def for_the_poet(blocks: int) -> dict[str, torch.Tensor]:
    layers = [pair(f"base_model.model.transformer.h.{block}.attn.c_attn", 768, 256) for block in range(blocks)]
    return {name: tensor for layer in layers for name, tensor in layer.items()}


def target_of(tmp_path: Path, to: str) -> Path:
    return tmp_path / "new" / {"peft": "folder", "gguf": "file.gguf"}.get(to, "file.safetensors")


@pytest.mark.parametrize("to", FORMATS)
def test_a_t5_in_the_file_keeps_an_sd_3_lora_from_becoming_an_xl_one(tmp_path: Path, to: str) -> None:
    # OneTrainer's, with three text encoders (ComfyUI#3701).
    layers = {
        "lora_transformer_transformer_blocks_0_attn_to_k": 1536,
        "lora_transformer_transformer_blocks_0_attn_add_k_proj": 1536,
        "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": 768,
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj": 1280,
        "lora_te3_encoder_block_0_layer_0_SelfAttention_k": 4096,
        "lora_te1_text_projection": 768,
        "lora_te2_text_projection": 1280,
    }
    tensors = {}
    for stem, width in layers.items():
        tensors[f"{stem}.lora_down.weight"] = torch.randn(4, width)
        tensors[f"{stem}.lora_up.weight"], tensors[f"{stem}.alpha"] = torch.randn(width, 4), torch.tensor(4.0)
    save_file(tensors, tmp_path / "sd3.safetensors")
    inspection = inspect(tmp_path / "sd3.safetensors")
    assert inspection.family == "Stable Diffusion 3"
    assert not any("text_projection" in remark for remark in inspection.remarks)
    with pytest.raises(ReaderError, match="lora_te3_encoder_block_0_layer_0_SelfAttention_k"):
        convert(tmp_path / "sd3.safetensors", target_of(tmp_path, to), to)
    assert not target_of(tmp_path, to).exists()


def test_a_lora_on_fused_experts_is_shown_whole_and_refused_by_its_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # PEFT's target_parameters: two pairs at one module, each for a parameter of three dimensions (vLLM, PR 41384).
    experts = "base_model.model.model.layers.0.mlp.experts"
    tensors = pair(experts, 128, 64, 32) | pair(f"{experts}.base_layer", 64, 64, 32)
    tensors |= pair("base_model.model.model.layers.0.self_attn.q_proj", 64, 64)
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    config["target_parameters"] = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    source = saved(tmp_path / "moe", tensors, config)
    inspection = inspect(source)
    assert inspection.adapter is not None
    assert inspection.adapter.modules == 3
    assert not any("cannot be multiplied" in remark for remark in inspection.remarks)
    for to in FORMATS:
        with pytest.raises(ReaderError, match=r"only PEFT knows \(target_parameters\)"):
            convert(source, target_of(tmp_path, to), to)
    assert main(["generate", "--model", "poet", "--lora", str(source), "春"]) == 1
    assert "target_parameters" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [
        {"enable_lora": None, "merge_weights": False, "base_model_name_or_path": "/home/alex/models/llama-13b"},
        {"peft_version": "0.99.0", "quantum_config": None, "use_zlora": False},
    ],
)
def test_settings_of_an_older_and_of_a_newer_peft_make_no_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder, more: dict[str, object]
) -> None:
    source = saved(tmp_path / "given", for_the_poet(4), POET | more)
    assert inspect(source).compatibility[0].compatible
    assert main(["convert", str(source), str(tmp_path / "new"), "--to", "peft"]) == 0
    assert main(["generate", "--model", "poet", "--lora", str(source), "春"]) == 0
    assert capsys.readouterr().err == "" and not [str(one.message) for one in recwarn if "LoraConfig" in str(one)]


def test_layers_that_the_model_lacks_are_not_dropped_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path / "eight", for_the_poet(8), POET)
    assert main(["generate", "--model", "poet", "--lora", str(source), "春"]) == 1
    printed = capsys.readouterr()
    assert "it has no layer transformer.h.4.attn.c_attn" in printed.err and printed.out == ""


def test_matrices_that_were_never_gathered_write_no_poem_and_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    source = saved(tmp_path / "zero3", {name: torch.zeros(0) for name in for_the_poet(4)}, POET)
    assert main(["generate", "--model", "poet", "--lora", str(source), "春"]) == 1
    assert "ZeRO-3" in capsys.readouterr().err
    assert main(["install", str(source)]) == 1
    assert "its 8 tensors hold no numbers" in capsys.readouterr().err


def test_a_word_as_one_vector_is_an_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    torch.save({"<cat-toy>": torch.randn(768)}, tmp_path / "learned_embeds.bin")
    installed = install(tmp_path / "learned_embeds.bin")
    assert installed == tmp_path / "store" / "embeddings" / "learned_embeds.safetensors"
    assert list(load_file(installed)) == ["<cat-toy>"]

"""``aigc convert`` says what it converted, and exits with 0, 1 for a file that cannot be, or 2 for wrong usage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lora_files import header_of, make, save_kohya
from safetensors.torch import save_file

from aigc_helpers.cli import main
from aigc_helpers.paths import DATA

LAYERS = [
    make("unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k", (160, 128), 4, 8.0),
    make("unet", "down_blocks.0.resnets.0.conv1", (96, 96, 3, 3), 2, 1.0),
    make("text_encoder", "encoder.layers.0.self_attn.q_proj", (128, 128), 4, 8.0),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_kohya(tmp_path / "koala.safetensors", LAYERS)


def test_it_tells_layers_ranks_alphas_and_files(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new.safetensors"
    assert main(["convert", str(source), str(target), "--to", "diffusers", "--base", "sd"]) == 0
    told = capsys.readouterr().out
    assert "as kohya writes it" in told
    assert "Stable Diffusion in miniature" in told
    assert "2 of the UNet" in told
    assert "1 of the text encoder" in told
    assert "2 (1 layers), 4 (2 layers)" in told
    assert "1 (1 layers), 8 (2 layers)" in told
    assert str(target) in told
    assert "lora_adapter_metadata" in header_of(target)


def test_a_peft_folder_per_component_is_announced(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(source), str(tmp_path / "peft"), "--to", "peft", "--base", str(DATA / "sd")]) == 0
    assert "one model per folder, so there are 2" in capsys.readouterr().out
    for component in ("unet", "text_encoder"):
        assert (tmp_path / "peft" / component / "adapter_config.json").is_file()
        assert (tmp_path / "peft" / component / "adapter_model.safetensors").is_file()


def test_a_file_that_is_none_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    target = tmp_path / "new.safetensors"
    assert main(["convert", str(tmp_path / "model.safetensors"), str(target), "--to", "kohya"]) == 1
    assert "holds no LoRA" in capsys.readouterr().err
    assert not target.exists()


def test_a_base_it_does_not_fit_exits_with_1(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(source), str(tmp_path / "new"), "--to", "peft", "--base", str(DATA / "poet")]) == 1
    assert "is not for" in capsys.readouterr().err


def test_wrong_usage_exits_with_2(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "new.safetensors")
    assert main(["convert", str(tmp_path / "missing"), target, "--to", "kohya"]) == 2
    assert "no file or folder" in capsys.readouterr().err
    assert main(["convert", str(source), target, "--to", "kohya", "--base", "no-such-model"]) == 2
    assert "no-such-model" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(source), target, "--to", "koyha"])
    assert stopped.value.code == 2

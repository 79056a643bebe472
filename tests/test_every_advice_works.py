"""Whatever a message says to do with a file is done here with that file, and works: for a LoRA of every family.

Advice in a circle ("convert it first", and ``convert`` refuses) is worse than none.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformer_models import MODELS, linears

from aigc_helpers import inspect
from aigc_helpers.cli import main
from aigc_helpers.inspection.family_table import FAMILIES
from aigc_helpers.lora.conversion import FORMATS

TO_K = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
# By family: what stands before the layers' names, and the layers with their outputs and inputs.
Layers = dict[str, tuple[int, int]]
OTHERS: dict[str, tuple[str, Layers]] = {
    "Stable Diffusion in miniature": ("lora_unet_", {TO_K: (32, 128)}),
    "Stable Diffusion 1.x": ("lora_unet_", {TO_K: (320, 768)}),
    "Stable Diffusion 2.x": ("unet.", {"mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1280, 1024)}),
    "Stable Diffusion XL": ("lora_unet_", {"input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048)}),
    "Stable Diffusion XL refiner": ("lora_unet_", {TO_K: (384, 1280)}),
    "Stable Cascade": ("unet.", {"down_blocks.0.2.attention.to_q": (1280, 1280)}),
    "HunyuanDiT": (
        "transformer.",
        {"blocks.0.attn1.to_q": (1408, 1408), "blocks.0.attn2.to_k": (1408, 1024)},
    ),
    "CogVideoX": ("transformer.", {"transformer_blocks.0.attn1.to_q": (1920, 1920)}),
    "CogView4": ("transformer.", {f"transformer_blocks.{n}.norm1.linear": (49152, 512) for n in range(2)}),
    "Allegro": ("transformer.", {"transformer_blocks.0.attn1.to_q": (2304, 2304)}),
    "Latte": ("transformer.", {"transformer_blocks.0.attn1.to_q": (1152, 1152)}),
    "Mochi": (
        "transformer.",
        {"transformer_blocks.0.attn1.to_q": (3072, 3072), "transformer_blocks.0.attn1.add_q_proj": (3072, 1536)},
    ),
    "AuraFlow": ("transformer.", {"joint_transformer_blocks.0.attn.to_q": (3072, 3072)}),
    "HiDream": ("diffusion_model.", {"double_stream_blocks.0.block.attn1.to_q": (2560, 2560)}),
}
PROGRAMS = ("a1111", "forge", "comfyui")


def layers_of(family: str) -> tuple[str, Layers]:
    built = next((model for model in MODELS if model[2] == family), None)
    if built is None:
        return OTHERS[family]
    return "transformer.", {name: (one.out_features, one.in_features) for name, one in linears(*built[:2]).items()}


def test_every_family_of_the_table_has_a_file_here() -> None:
    assert {row.name for row in FAMILIES} == {family for *_, family in MODELS} | set(OTHERS)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    for sign in ("models/Stable-diffusion", "models/checkpoints"):
        (tmp_path / "program" / sign).mkdir(parents=True)
    return tmp_path / "program"


def saved(path: Path, prefix: str, layers: Layers) -> Path:
    down, up = ("lora_down", "lora_up") if "." not in prefix else ("lora_A", "lora_B")
    tensors = {}
    for number, (name, (outputs, inputs)) in enumerate(layers.items()):
        generator = torch.Generator().manual_seed(number)
        tensors[f"{prefix}{name}.{down}.weight"] = torch.randn(1, inputs, generator=generator)
        tensors[f"{prefix}{name}.{up}.weight"] = torch.randn(outputs, 1, generator=generator)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("family", [row.name for row in FAMILIES])
def test_what_a_message_says_to_do_with_a_lora_works(
    tmp_path: Path, programs: Path, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    source = saved(tmp_path / "style.safetensors", *layers_of(family))
    assert family in str(inspect(source).family) or family == "CogView4"  # One layer is many families'.
    said = []
    for to in FORMATS:
        target = tmp_path / "first" / {"peft": to, "gguf": "lora.gguf"}.get(to, f"{to}.safetensors")
        code = main(["convert", str(source), str(target), "--to", to])
        said.append(capsys.readouterr())
        assert code == 0 or not target.exists()
    for layout in PROGRAMS:
        main(["install", str(source), "--layout", layout, "--to", str(programs)])
        said.append(capsys.readouterr())
    followed = [follow("".join(each), source, tmp_path / f"advised-{n}", programs) for n, each in enumerate(said)]
    capsys.readouterr()
    assert all(each.out.startswith("✓") or follow_up for each, follow_up in zip(said, followed, strict=True))


def follow(message: str, source: Path, target: Path, programs: Path) -> list[str]:
    """Do what a message says, and return what was done."""
    done = []
    for to in re.findall(r"Converted to (\w+)|--to (peft|kohya|diffusers)", message):
        (to,) = filter(None, to)
        place = target / (to if to == "peft" else f"{to}.safetensors")
        assert main(["convert", str(source), str(place), "--to", to]) == 0, message
        done.append(to)
    for layout in re.findall(r"the layout (\w+), with that program's folder", message):
        assert main(["install", str(source), "--layout", layout, "--to", str(programs)]) == 0, message
        done.append(layout)
    if "Without --layout it goes into the workbook's own store" in message:
        assert main(["install", str(source)]) == 0, message
        done.append("store")
    if "Load the file as it is" in message:  # ComfyUI's folder takes it.
        assert main(["install", str(source), "--layout", "comfyui", "--to", str(programs)]) == 0, message
        done.append("comfyui")
    return done


@pytest.mark.parametrize(
    ("files", "command"),
    [
        # A pickle as older releases of PEFT wrote it; its settings beside it, or none.
        ({"adapter_model.bin": "peft", "adapter_config.json": "config"}, "install"),
        ({"adapter_model.bin": "peft"}, "install"),
        ({"adapter_model.bin": "peft", "adapter_config.json": "config"}, "convert"),
        ({"style.ckpt": "kohya"}, "convert"),
        ({"style.pt": "kohya"}, "inspect"),
    ],
)
def test_what_a_message_says_to_do_with_a_pickle_works(
    tmp_path: Path, programs: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], command: str
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    stems = {"peft": "base_model.model.transformer.h.0.attn.c_attn", "kohya": f"lora_unet_{TO_K}"}
    for name, form in files.items():
        if form == "config":
            config = '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["c_attn"]}'
            (folder / name).write_text(config, encoding="utf-8")
            continue
        words = ("lora_A", "lora_B") if form == "peft" else ("lora_down", "lora_up")
        shapes = ((2, 256), (768, 2)) if form == "peft" else ((2, 768), (320, 2))
        torch.save(
            {f"{stems[form]}.{w}.weight": torch.ones(s) for w, s in zip(words, shapes, strict=True)}, folder / name
        )
    source = folder / next(iter(files))
    arguments = [str(source)] + ([str(tmp_path / "new"), "--to", "peft"] if command == "convert" else [])
    code = main([command, *arguments])
    printed = capsys.readouterr()
    if code == 0:
        return
    advice = re.search(r"aigc ((install|convert) .*)", printed.err)
    assert advice, printed.err
    assert main(advice[1].split()) == 0, printed.err


@pytest.mark.parametrize(
    "content",
    [
        {320: ({"linear.0.weight": torch.ones(8, 4)},) * 2, "step": 1, "layer_structure": [1, 2, 1]},
        {"string_to_param": {"*": torch.ones(2, 768)}, "name": "word"},
        {"state_dict": {"model.diffusion_model.out.2.weight": torch.ones(4, 4)}},
    ],
)
def test_a_pickle_without_a_lora_is_not_sent_round_in_a_circle(
    tmp_path: Path, programs: Path, capsys: pytest.CaptureFixture[str], content: dict[object, object]
) -> None:
    torch.save(content, tmp_path / "some.pt")
    assert main(["convert", str(tmp_path / "some.pt"), str(tmp_path / "new"), "--to", "peft"]) == 1
    said = capsys.readouterr().err
    assert "holds no LoRA" in said
    advice = re.search(r"aigc (inspect \S+) says what it is", said)
    assert advice and main(advice[1].split()) == 0

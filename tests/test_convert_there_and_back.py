"""A LoRA converted to any format and back is the same to the bit, with every layer's own alpha.

A lost alpha is the commonest damage: a picture at half strength looks like a badly trained style, and nobody looks for
the file. So every pair of formats is gone through with random ranks, alphas, dtypes and layers.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from lora_files import Made, make, same_bits, save_kohya, tensors_in
from safetensors.torch import load_file, save_file

from aigc_helpers.lora import convert
from aigc_helpers.lora.adapter import read_adapter

FORMATS = ("peft", "diffusers", "kohya")  # For pictures; GGUF is a language model's, and a way without return.

LAYERS = [
    ("unet", "conv_in", (6, 4, 3, 3)),
    ("unet", "down_blocks.0.resnets.1.conv1", (6, 6, 3, 3)),
    ("unet", "down_blocks.0.resnets.1.time_emb_proj", (6, 8)),
    ("unet", "up_blocks.1.resnets.0.conv_shortcut", (5, 7, 1, 1)),
    ("unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", (8, 768)),
    ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0", (8, 8)),
    ("unet", "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj", (16, 8)),
    ("unet", "mid_block.attentions.0.proj_in", (8, 8)),
    ("text_encoder", "encoder.layers.0.self_attn.q_proj", (8, 8)),
    ("text_encoder", "encoder.layers.11.mlp.fc1", (16, 8)),
    ("text_encoder_2", "text_model.encoder.layers.3.self_attn.out_proj", (8, 8)),
    ("text_encoder_2", "text_projection", (8, 8)),
]


@st.composite
def adapters(draw: st.DrawFn) -> list[Made]:
    chosen = draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=6, unique=True))
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    alphas = st.one_of(st.sampled_from([1.0, 4.0, 8.0, 0.5]), st.floats(0.125, 64, width=16))
    return [
        make(component, path, sizes, draw(st.integers(1, 5)), draw(alphas), seed, dtype=dtype)
        for seed, (component, path, sizes) in enumerate(chosen)
    ]


def target(folder: Path, to: str, number: int = 0) -> Path:
    return folder / f"{number}-{to}" if to == "peft" else folder / f"{number}-{to}.safetensors"


def alphas_in(path: Path) -> dict[tuple[str, str], float]:
    return {(layer.component, layer.path): layer.alpha for layer in read_adapter(path).layers}


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(adapters())
def test_every_pair_of_formats_gives_back_the_same_bits_and_alphas(made: list[Made]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = save_kohya(folder / "source.safetensors", made)
        wanted = alphas_in(source)
        assert sorted(wanted.values()) == sorted(
            float(torch.tensor(layer.alpha, dtype=layer.down.dtype)) for layer in made
        )
        for to in FORMATS:
            convert(source, target(folder, to), to)
        for first, second in itertools.product(FORMATS, FORMATS):
            start, there, back = (target(folder, to, number) for number, to in enumerate((first, second, first)))
            convert(start, there, second)
            convert(there, back, first)
            assert same_bits(tensors_in(start), tensors_in(back)), (first, second)
            assert alphas_in(start) == alphas_in(there) == alphas_in(back) == wanted


def test_a_kohya_file_comes_back_from_diffusers_with_its_own_bytes(tmp_path: Path) -> None:
    # The alphas too, in the dtype that the trainer wrote them in.
    made = [make(*layer, rank=4, alpha=2.0, dtype=torch.float16) for layer in LAYERS[:10]]
    source = save_kohya(tmp_path / "source.safetensors", made)
    convert(source, tmp_path / "diffusers.safetensors", "diffusers")
    convert(tmp_path / "diffusers.safetensors", tmp_path / "back.safetensors", "kohya")
    assert same_bits(load_file(source), load_file(tmp_path / "back.safetensors"))


def dora(path: str, sizes: Sequence[int]) -> dict[str, torch.Tensor]:
    layer = make("unet", path, sizes, rank=3, alpha=6.0)
    stem = f"lora_unet_{path.replace('.', '_')}"
    return {
        f"{stem}.lora_down.weight": layer.down,
        f"{stem}.lora_up.weight": layer.up,
        f"{stem}.alpha": torch.tensor(6.0),
        f"{stem}.dora_scale": torch.rand(sizes[0], *[1] * (len(sizes) - 1)),
    }


@pytest.mark.parametrize("to", ["peft", "diffusers"])
def test_the_magnitudes_of_a_dora_go_along(tmp_path: Path, to: str) -> None:
    tensors = dora("mid_block.attentions.0.proj_in", (8, 8)) | dora("conv_in", (6, 4, 3, 3))
    save_file(tensors, tmp_path / "dora.safetensors")
    convert(tmp_path / "dora.safetensors", target(tmp_path, to), to)
    magnitudes = {name: value for name, value in tensors_in(target(tmp_path, to)).items() if "magnitude" in name}
    # PEFT's own shapes: outputs, and 1 × outputs × 1 × 1 for a convolution.
    assert sorted(tuple(value.shape) for value in magnitudes.values()) == [(1, 6, 1, 1), (8,)]
    convert(target(tmp_path, to), tmp_path / "back.safetensors", "kohya")
    assert same_bits(load_file(tmp_path / "back.safetensors"), tensors)


@pytest.mark.parametrize(
    ("down", "up", "name"),
    [
        (".lora.down.weight", ".lora.up.weight", "unet.{}.attn1.to_q"),
        ("_lora.down.weight", "_lora.up.weight", "unet.{}.attn1.processor.to_q"),
        (".lora_A.weight", ".lora_B.weight", "{}.attn1.to_q"),
        (".lora_A.default.weight", ".lora_B.default.weight", "base_model.model.{}.attn1.to_q"),
    ],
)
def test_older_and_unprefixed_names_are_read(tmp_path: Path, down: str, up: str, name: str) -> None:
    block = "mid_block.attentions.0.transformer_blocks.0"
    made = make("unet", f"{block}.attn1.to_q", (8, 8), rank=2, alpha=2.0)
    save_file({name.format(block) + down: made.down, name.format(block) + up: made.up}, tmp_path / "old.safetensors")
    converted = convert(tmp_path / "old.safetensors", tmp_path / "new.safetensors", "kohya")
    save_kohya(tmp_path / "wanted.safetensors", [made])
    assert same_bits(load_file(tmp_path / "new.safetensors"), load_file(tmp_path / "wanted.safetensors"))
    assert any("No alpha stands in the file" in remark for remark in converted.remarks)


@pytest.mark.parametrize("ending", ["q_proj.lora_linear_layer.{}.weight", "to_q_lora.{}.weight"])
def test_older_names_of_a_text_encoder_are_read(tmp_path: Path, ending: str) -> None:
    made = make("text_encoder", "encoder.layers.0.self_attn.q_proj", (8, 8), rank=2, alpha=2.0)
    stem = f"text_encoder.text_model.encoder.layers.0.self_attn.{ending}"
    save_file({stem.format("down"): made.down, stem.format("up"): made.up}, tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", tmp_path / "new.safetensors", "kohya")
    save_kohya(tmp_path / "wanted.safetensors", [made])
    assert same_bits(load_file(tmp_path / "new.safetensors"), load_file(tmp_path / "wanted.safetensors"))


def test_an_alpha_of_zero_is_the_rank_as_for_kohyas_own_programs(tmp_path: Path) -> None:
    source = save_kohya(tmp_path / "zero.safetensors", [make(*LAYERS[4], rank=4, alpha=0.0)])
    converted = convert(source, tmp_path / "new.safetensors", "diffusers")
    assert converted.alphas == {4.0: 1}
    assert any("alpha of 0" in remark for remark in converted.remarks)


def test_a_rank_stabilised_adapter_keeps_its_strength(tmp_path: Path) -> None:
    from peft import LoraConfig

    made = make(*LAYERS[4], rank=4, alpha=6.0)
    folder = tmp_path / "rslora"
    LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=[made.path]).save_pretrained(folder)
    names = (f"base_model.model.{made.path}.lora_{letter}.weight" for letter in "AB")
    save_file(dict(zip(names, (made.down, made.up), strict=True)), folder / "adapter_model.safetensors")
    # 6 / √4 = 3 = 12 / 4.
    assert convert(folder, tmp_path / "plain.safetensors", "kohya").alphas == {12.0: 1}

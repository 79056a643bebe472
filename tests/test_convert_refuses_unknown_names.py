"""``convert`` writes a layer's name only where a model has it; what fits no grammar is refused, and nothing is written.

A name in which every underscore became a dot is written with ✓, loads with a warning in a log, and does nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lora_files import make, save_kohya
from safetensors.torch import load_file, save_file
from transformer_models import MODELS, linears

from aigc_helpers import inspect, install
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.lora import convert
from aigc_helpers.lora.adapter import read_adapter
from aigc_helpers.paths import DATA

TO_K = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
FLAT = "lora_unet_" + TO_K.replace(".", "_")
FORMATS = ("peft", "diffusers", "kohya")


def pair(stem: str, form: str = "lora_{}.weight", rank: int = 2, sizes: tuple[int, int] = (8, 8)) -> dict:
    words = ("A", "B") if form == "lora_{}.weight" else ("down", "up")
    down, up = (f"{stem}{'' if form.startswith('_') else '.'}{form.format(word)}" for word in words)
    return {down: torch.ones(rank, sizes[1]), up: torch.ones(sizes[0], rank)}


def saved(tmp_path: Path, *pairs: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    tensors = {name: tensor for each in pairs for name, tensor in each.items()}
    save_file(tensors, tmp_path / "source.safetensors", metadata)
    return tmp_path / "source.safetensors"


def target_of(tmp_path: Path, to: str) -> Path:
    return tmp_path / "new" / ("folder" if to == "peft" else "file.safetensors")


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_double_blocks_0_img_attn_qkv",
        "lora_unet_single_blocks_0_linear1",
        "lora_unet_joint_blocks_0_x_block_attn_proj",
        "lora_unet_blocks_0_cross_attn_k",
        "lora_unet_layers_0_attention_qkv",
        "lora_unet_nobody_has_this",
        "lora_unet_input_blocks_99_7_nothing",
        "lora_te_nobody_has_this",
        "lora_te2_encoder_block_0_layer_0_SelfAttention_k",
        "lora_te3_encoder_block_0_layer_0_SelfAttention_k",
        "lora_transformer_nobody_has_this",
    ],
)
def test_a_flattened_name_that_no_known_model_has_is_refused_by_name(tmp_path: Path, name: str, to: str) -> None:
    source = saved(tmp_path, pair(name), pair(FLAT))
    with pytest.raises(ReaderError, match=f"source.safetensors: .*{name.partition('_')[0]}.*none of|is no layer of"):
        convert(source, target_of(tmp_path, to), to)
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


@pytest.mark.parametrize("to", ["peft", "diffusers"])
@pytest.mark.parametrize("name", ["unet.double_blocks.0.img_attn.qkv", "diffusion_model.blocks.0.cross_attn.nothing"])
def test_a_dotted_name_of_another_model_is_refused(tmp_path: Path, name: str, to: str) -> None:
    with pytest.raises(ReaderError, match="none of the"):
        convert(saved(tmp_path, pair(name)), target_of(tmp_path, to), to)
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


@pytest.mark.parametrize(
    ("class_name", "settings"),
    [model[:2] for model in MODELS if model[2] in ("FLUX.1", "FLUX.2", "Stable Diffusion 3", "Qwen-Image", "PixArt")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_flattened_names_of_a_transformer_become_those_of_its_own_layers(
    tmp_path: Path, class_name: str, settings: dict[str, object]
) -> None:
    layers = {
        name: layer
        for name, layer in linears(class_name, settings).items()
        if "transformer_blocks." in name or name in ("x_embedder", "context_embedder", "proj_out")
    }
    source = saved(tmp_path, *(pair(f"lora_transformer_{name.replace('.', '_')}") for name in layers))
    assert {layer.path for layer in read_adapter(source).layers} == set(layers)
    convert(source, tmp_path / "peft", "peft")
    written = {name.partition(".lora_")[0] for name in load_file(tmp_path / "peft" / "adapter_model.safetensors")}
    assert written == {f"base_model.model.{name}" for name in layers}


@pytest.mark.parametrize("prefix", ["transformer.", "diffusion_model."])
@pytest.mark.parametrize("to", ["peft", "diffusers"])
def test_names_of_a_diffusion_transformer_are_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prefix: str, to: str
) -> None:
    name = "transformer_blocks.0.attn1.to_q"
    source, target = saved(tmp_path, pair(prefix + name)), target_of(tmp_path, to)
    assert main(["convert", str(source), str(target), "--to", to]) == 0
    assert "1 of the diffusion transformer" in capsys.readouterr().out
    written = load_file(target / "adapter_model.safetensors" if to == "peft" else target)
    assert f"{'base_model.model' if to == 'peft' else 'transformer'}.{name}.lora_A.weight" in written


def test_kohya_s_format_has_no_names_for_a_transformer(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="diffusion transformer.*Converted to peft"):
        convert(
            saved(tmp_path, pair("transformer.transformer_blocks.0.attn1.to_q")), tmp_path / "a.safetensors", "kohya"
        )
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("stem", "form", "path"),
    [
        (f"unet._orig_mod.{TO_K}", "lora_{}.weight", TO_K),
        (f"base_model.model._orig_mod.{TO_K}", "lora_{}.weight", TO_K),
        (FLAT.replace("lora_unet_", "lora_unet__orig_mod_"), "lora_{}.weight", TO_K),
        (f"base_model.model.base_model.model.{TO_K}", "lora_{}.weight", TO_K),
        (
            "unet.output_blocks.5.0.skip_connection",
            "lora_{}.weight",
            "up_blocks.1.resnets.2.conv_shortcut",
        ),
        (
            "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
            "lora_{}.weight",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
        (
            "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.k_proj",
            "lora_{}.weight",
            "encoder.layers.0.self_attn.k_proj",
        ),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.to_k",
            "_lora.{}.weight",
            "encoder.layers.0.self_attn.k_proj",
        ),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.out_proj.to_out",
            "_lora.{}.weight",
            "encoder.layers.0.self_attn.out_proj",
        ),
    ],
)
def test_names_with_a_known_grammar_are_mapped(tmp_path: Path, stem: str, form: str, path: str) -> None:
    (layer,) = read_adapter(saved(tmp_path, pair(stem, form))).layers
    assert layer.path == path


def test_two_layers_that_kohya_would_call_the_same_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, pair("unet.up_blocks.0.x_y.z"), pair("unet.up_blocks.0.x.y_z"))
    with pytest.raises(ReaderError, match=r"x\.y_z.*x_y\.z.*would both be called.*PEFT's format keeps them apart"):
        convert(source, tmp_path / "new.safetensors", "kohya")
    assert not (tmp_path / "new.safetensors").exists()
    convert(source, tmp_path / "peft", "peft")  # The advice works.
    assert len(load_file(tmp_path / "peft" / "adapter_model.safetensors")) == 4


def test_a_layer_s_name_is_no_regular_expression_in_what_is_written(tmp_path: Path) -> None:
    odd = "unet.up_blocks.(.+.+)+Z"
    source = saved(tmp_path, pair(odd, rank=3), pair("unet.up_blocks.a"), pair("unet.up_blocks.b"))
    convert(source, tmp_path / "peft", "peft")
    patterns = json.loads((tmp_path / "peft" / "adapter_config.json").read_text(encoding="utf-8"))["rank_pattern"]
    assert patterns == {r"^up_blocks\.\(\.\+\.\+\)\+Z": 3}


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool])
@pytest.mark.parametrize("to", FORMATS)
def test_matrices_of_whole_numbers_are_refused(tmp_path: Path, dtype: torch.dtype, to: str) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in pair(f"unet.{TO_K}").items()}
    source = saved(tmp_path, tensors, metadata={"lora_adapter_metadata": '{"unet.lora_alpha": 300, "unet.r": 2}'})
    with pytest.raises(ReaderError, match="are whole numbers.*quantised"):
        convert(source, target_of(tmp_path, to), to)
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["oft_blocks"], "is an OFT"),
        ([f"{letter}{number}.weight" for letter in "ab" for number in (1, 2)], "LyCORIS GLoRA"),
        (["diff"], "LyCORIS full difference"),
    ],
)
def test_a_relative_is_named_also_beside_an_ordinary_layer(tmp_path: Path, parts: list[str], words: str) -> None:
    other = {f"lora_unet_conv_in.{part}": torch.ones(8, 8) for part in parts}
    for beside in ({}, pair(FLAT)):
        with pytest.raises(ReaderError, match=words):
            convert(saved(tmp_path, other, beside), tmp_path / "new.safetensors", "diffusers")


def test_a_bias_beside_two_matrices_is_not_dropped(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="whole difference of its weight or bias"):
        convert(saved(tmp_path, pair(FLAT), {f"{FLAT}.diff_b": torch.ones(8)}), tmp_path / "new", "peft")


def test_a_pickle_of_an_older_peft_keeps_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    names = [f"base_model.model.transformer.h.{block}.attn.c_attn.lora_{letter}" for block in (0, 1) for letter in "AB"]
    tensors = {f"{name}.weight": torch.ones((8, 256) if name.endswith("A") else (768, 8)) for name in names}
    torch.save(tensors, folder / "adapter_model.bin")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["c_attn"], "enable_lora": None}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    done = convert(folder, tmp_path / "new", "peft", DATA / "poet")
    assert done.alphas == {16.0: 2}
    assert inspect(tmp_path / "new").adapter.alphas == {16.0: 2}
    with pytest.raises(ReaderError, match="old is for a model of its own"):
        convert(folder, tmp_path / "new.safetensors", "kohya")


def test_such_a_pickle_is_installed_with_its_settings_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    test_a_pickle_of_an_older_peft_keeps_its_settings(tmp_path)
    assert main(["install", str(tmp_path / "old" / "adapter_model.bin")]) == 1
    advice = capsys.readouterr().err.partition("Install both: aigc ")[2].split()
    assert main(advice) == 0
    (line, *_) = capsys.readouterr().out.splitlines()
    installed = Path(line.partition("installed: ")[2])
    assert {path.name for path in installed.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    assert inspect(installed).adapter.alphas == {16.0: 2}
    assert main(advice) == 0
    assert "already there" in capsys.readouterr().out


def test_each_component_s_pickle_is_installed_with_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    for component, alpha in (("unet", 4), ("text_encoder", 8)):
        folder = tmp_path / "both" / component
        folder.mkdir(parents=True)
        layer = f"base_model.model.{TO_K if component == 'unet' else 'text_model.encoder.layers.0.self_attn.q_proj'}"
        torch.save(pair(layer, sizes=(8, 768)), folder / "adapter_model.bin")
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": alpha, "target_modules": ["to_k", "q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert inspect(install(tmp_path / "both")).adapter.alphas == {4.0: 1, 8.0: 1}


def test_who_loads_such_a_pickle_gets_the_same_advice(tmp_path: Path) -> None:
    test_a_pickle_of_an_older_peft_keeps_its_settings(tmp_path)
    with pytest.raises(ReaderError, match=r"is a pickle.*aigc convert \S+old \S+old_safe --to peft"):
        read_adapter(tmp_path / "old")


def test_a_setting_s_control_characters_stay_out_of_the_message(tmp_path: Path) -> None:
    folder = tmp_path / "peft"
    folder.mkdir()
    save_file(pair("base_model.model.x.query"), folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["query"], "task_type": "FOO\x1b[31m"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ReaderError, match="Invalid task type") as refused:
        convert(folder, tmp_path / "new", "peft")
    assert "\x1b" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_safetensors_under_a_pickle_s_name_are_converted(tmp_path: Path) -> None:
    source = save_kohya(tmp_path / "style.pt", [make("unet", TO_K, (320, 768), 2, 2.0)])
    assert convert(source, tmp_path / "new.safetensors", "diffusers").layers == {"unet": 1}

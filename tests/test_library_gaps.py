"""The gaps in diffusers and PEFT that ``aigc_helpers.lora`` closes: each shown in the library first, then closed.

When one of the first halves fails, the library has been mended, and ours can go.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from lora_files import Made, make, make_for, save_kohya
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.functional import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from aigc_helpers.errors import ReaderError
from aigc_helpers.images import load_pipeline
from aigc_helpers.lora import convert, load_adapter
from aigc_helpers.lora.targets import check_target_modules
from aigc_helpers.quiet import quiet

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
FLAT = f"lora_unet_{LAYER.replace('.', '_')}"
TEXT_LAYER = "encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline()


@pytest.fixture(autouse=True)
def _unload(pipeline: StableDiffusionPipeline) -> None:
    yield
    pipeline.unload_lora_weights()


@pytest.fixture(scope="module")
def unet_layers(pipeline: StableDiffusionPipeline) -> list[Made]:
    return make_for(pipeline.unet, "unet", ["attn1.to_q", "attn2.to_q"], 4, 8.0)


def theirs(pipeline: StableDiffusionPipeline, path: Path) -> None:
    with quiet("diffusers", "transformers"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.load_lora_weights(str(path), adapter_name="theirs", use_safetensors=True, local_files_only=True)


def strengths(model: torch.nn.Module) -> list[float]:
    return [scale for layer in model.modules() if isinstance(layer, LoraLayer) for scale in layer.scaling.values()]


def peft_names(layer: Made, component: str = "unet") -> dict[str, torch.Tensor]:
    stem = f"{component}.{layer.path}"
    return {f"{stem}.lora_A.weight": layer.down, f"{stem}.lora_B.weight": layer.up}


def test_gap_1_the_alpha_of_a_kohya_export(tmp_path: Path) -> None:
    layer = make("unet", LAYER, (160, 160), rank=4, alpha=8.0)
    assert convert_state_dict_to_kohya(peft_names(layer))[f"{FLAT}.alpha"] == 4  # The rank, whatever alpha was.
    source = save_kohya(tmp_path / "source.safetensors", [layer])
    convert(source, tmp_path / "diffusers.safetensors", "diffusers")
    convert(tmp_path / "diffusers.safetensors", tmp_path / "kohya.safetensors", "kohya")
    assert load_file(tmp_path / "kohya.safetensors")[f"{FLAT}.alpha"] == 8


def test_gap_2_the_text_encoders_names_in_a_kohya_export(tmp_path: Path) -> None:
    layer = make("text_encoder", TEXT_LAYER, (128, 128), rank=4, alpha=4.0)
    exported = convert_state_dict_to_kohya(peft_names(layer, "text_encoder"))
    assert {key.partition(".")[0] for key in exported} == {"lora_te1_encoder_layers_0_self_attn_q_proj"}
    save_file(peft_names(layer, "text_encoder"), tmp_path / "diffusers.safetensors")
    convert(tmp_path / "diffusers.safetensors", tmp_path / "kohya.safetensors", "kohya")
    found = {key.partition(".")[0] for key in load_file(tmp_path / "kohya.safetensors")}
    assert found == {"lora_te_text_model_encoder_layers_0_self_attn_q_proj"}


def test_gap_3_legacy_and_dora_names_in_a_kohya_export(tmp_path: Path) -> None:
    layer = make("unet", LAYER, (160, 160), rank=4, alpha=4.0)
    legacy = {f"unet.{LAYER}.lora.down.weight": layer.down, f"unet.{LAYER}.lora.up.weight": layer.up}
    with pytest.raises(ValueError, match="not supported"):
        convert_state_dict_to_kohya(legacy)
    dora = peft_names(layer) | {f"unet.{LAYER}.lora_magnitude_vector": torch.ones(160)}
    assert not any("dora_scale" in key for key in convert_state_dict_to_kohya(dora))
    for number, tensors in enumerate((legacy, dora)):
        save_file(tensors, tmp_path / "source.safetensors")
        convert(tmp_path / "source.safetensors", tmp_path / f"{number}.safetensors", "kohya")
    assert set(load_file(tmp_path / "0.safetensors")) == {
        f"{FLAT}.{ending}" for ending in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    assert load_file(tmp_path / "1.safetensors")[f"{FLAT}.dora_scale"].shape == (160, 1)


def test_gap_4_alphas_that_differ_per_layer(
    pipeline: StableDiffusionPipeline, unet_layers: list[Made], tmp_path: Path
) -> None:
    odd, *others = unet_layers
    mixed = [Made("unet", odd.path, odd.down, odd.up, 1.0), *others]
    path = save_kohya(tmp_path / "mixed.safetensors", mixed)
    theirs(pipeline, path)
    assert set(strengths(pipeline.unet)) == {2.0}  # The majority's, for all.
    pipeline.unload_lora_weights()
    load_adapter(pipeline, path)
    assert sorted(strengths(pipeline.unet)) == [0.25] + [2.0] * len(others)


def test_gap_5_dora_loha_and_a_text_encoder_without_out_proj(
    pipeline: StableDiffusionPipeline, unet_layers: list[Made], tmp_path: Path
) -> None:
    tensors = load_file(save_kohya(tmp_path / "plain.safetensors", unet_layers))
    for key in [key for key in tensors if key.endswith("lora_up.weight")]:
        tensors[key.replace("lora_up.weight", "dora_scale")] = torch.rand(len(tensors[key]), 1) + 0.5
    save_file(tensors, tmp_path / "dora.safetensors")
    theirs(pipeline, tmp_path / "dora.safetensors")
    assert not any("magnitude" in name for name, _ in pipeline.unet.named_parameters())
    pipeline.unload_lora_weights()
    load_adapter(pipeline, tmp_path / "dora.safetensors")
    magnitudes = [value for name, value in pipeline.unet.named_parameters() if "magnitude" in name]
    assert len(magnitudes) == len(unet_layers)
    stored = [value.reshape(-1) for key, value in tensors.items() if key.endswith("dora_scale")]
    assert all(any(torch.equal(value.reshape(-1), each) for each in stored) for value in magnitudes)
    pipeline.unload_lora_weights()

    save_file({f"{FLAT}.hada_w{n}_{a}": torch.ones(4, 4) for n in (1, 2) for a in "ab"}, tmp_path / "loha.safetensors")
    with pytest.raises(ValueError, match="have not been correctly renamed"):
        theirs(pipeline, tmp_path / "loha.safetensors")
    with pytest.raises(ReaderError, match="LyCORIS LoHa"):
        load_adapter(pipeline, tmp_path / "loha.safetensors")

    text = make_for(pipeline.text_encoder, "text_encoder", ["q_proj"], 4, 4.0)
    path = save_kohya(tmp_path / "text.safetensors", text)
    with pytest.raises(ValueError, match="Could not automatically infer"):
        theirs(pipeline, path)
    assert load_adapter(pipeline, path).layers == {"text_encoder": len(text)}
    pipeline.unload_lora_weights()
    # And converted, the library reads it, too.
    convert(path, tmp_path / "converted.safetensors", "diffusers")
    theirs(pipeline, tmp_path / "converted.safetensors")
    assert len(strengths(pipeline.text_encoder)) == len(text)


def test_gap_6_the_alpha_of_save_lora_weights(pipeline: StableDiffusionPipeline, tmp_path: Path) -> None:
    base = load_pipeline()
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules=["attn1.to_q"]), base.unet, "default")
    for name, parameter in base.unet.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    assert set(strengths(base.unet)) == {2.0}
    StableDiffusionPipeline.save_lora_weights(tmp_path / "lost", get_peft_model_state_dict(base.unet))
    theirs(pipeline, tmp_path / "lost")
    assert set(strengths(pipeline.unet)) == {1.0}
    pipeline.unload_lora_weights()
    # Ours says so; and what it writes keeps the alpha, for the library as well.
    remarks = load_adapter(pipeline, tmp_path / "lost").remarks
    assert any("No alpha stands in the file" in remark for remark in remarks)
    pipeline.unload_lora_weights()
    base.unet.save_lora_adapter(tmp_path / "kept")
    convert(tmp_path / "kept", tmp_path / "converted.safetensors", "diffusers")
    theirs(pipeline, tmp_path / "converted.safetensors")
    assert set(strengths(pipeline.unet)) == {2.0}


def test_gap_7_a_folder_of_save_lora_adapter(
    pipeline: StableDiffusionPipeline, unet_layers: list[Made], tmp_path: Path
) -> None:
    load_adapter(pipeline, save_kohya(tmp_path / "source.safetensors", unet_layers))
    pipeline.unet.save_lora_adapter(tmp_path / "folder")
    pipeline.unload_lora_weights()
    theirs(pipeline, tmp_path / "folder")
    assert strengths(pipeline.unet) == []  # Nothing, and no error.
    pipeline.unload_lora_weights()
    load_adapter(pipeline, tmp_path / "folder")
    assert strengths(pipeline.unet) == [2.0] * len(unet_layers)


def small() -> torch.nn.Module:
    return torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in ("query", "value")})


def test_gap_8_wrong_targets_and_missing_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not found"):
        get_peft_model(small(), LoraConfig(target_modules=["kwery"]))
    model = get_peft_model(small(), LoraConfig(target_modules=["query", "valeu"]))
    assert len(strengths(model)) == 1  # One of two, and no error.
    with pytest.raises(ReaderError, match="'valeu' matches no layer.*value"):
        check_target_modules(small(), ["query", "valeu"])

    whole = get_peft_model(small(), LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False))
    whole.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file({key: value for key, value in tensors.items() if "query" in key}, tmp_path / "adapter_model.safetensors")
    with pytest.warns(UserWarning, match="missing adapter keys"):
        PeftModel.from_pretrained(small(), tmp_path)
    with pytest.raises(ReaderError, match="'value' gets nothing"):
        load_adapter(small(), tmp_path)

"""A converted adapter draws the same picture, and a text encoder or a language model gives the same numbers.

Equal bits under wrong names would still be another picture; so this goes through the whole pipeline.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.functional import inject_adapter_in_model

from aigc_helpers.images import draw_many, load_pipeline
from aigc_helpers.lora import convert, load_adapter
from aigc_helpers.text import load_poet

PROMPT = "tiger, noto style, blue background"
STEPS = 3


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = load_pipeline()
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    return pipeline


@pytest.fixture(scope="module")
def original(pipeline: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that diffusers saved: UNet and text encoder, alpha twice the rank, some layers with their own."""
    base = load_pipeline()
    for model, targets in ((base.unet, ["to_q", "to_out.0", "conv1"]), (base.text_encoder, ["q_proj", "fc1"])):
        config = LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=targets,
            rank_pattern={"conv1": 2},
            alpha_pattern={"conv1": 3, "fc1": 1},
        )
        torch.manual_seed(0)
        inject_adapter_in_model(config, model, "default")
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("original")
    StableDiffusionPipeline.save_lora_weights(
        folder,
        get_peft_model_state_dict(base.unet),
        get_peft_model_state_dict(base.text_encoder),
        **_collate_lora_metadata({"unet": base.unet, "text_encoder": base.text_encoder}),
    )
    return folder


def picture(pipeline: StableDiffusionPipeline) -> np.ndarray:
    return np.asarray(draw_many(pipeline, [PROMPT], seed=1, steps=STEPS, guidance=4.0)[0]).astype(int)


@pytest.mark.slow
def test_the_picture_is_the_same_from_every_format(
    pipeline: StableDiffusionPipeline, original: Path, tmp_path: Path
) -> None:
    plain = picture(pipeline)
    pipeline.load_lora_weights(str(original), adapter_name="theirs", use_safetensors=True)
    wanted = picture(pipeline)
    pipeline.unload_lora_weights()
    assert np.abs(wanted - plain).mean() > 1
    convert(original, tmp_path / "kohya.safetensors", "kohya")
    convert(tmp_path / "kohya.safetensors", tmp_path / "peft", "peft")
    convert(tmp_path / "peft", tmp_path / "diffusers.safetensors", "diffusers")
    for path in (original, tmp_path / "kohya.safetensors", tmp_path / "peft", tmp_path / "diffusers.safetensors"):
        load_adapter(pipeline, path)
        assert np.array_equal(picture(pipeline), wanted), path.name
        pipeline.unload_lora_weights()
    # And the library alone reads what we write for it.
    pipeline.load_lora_weights(str(tmp_path / "diffusers.safetensors"), adapter_name="ours", use_safetensors=True)
    assert np.array_equal(picture(pipeline), wanted)
    pipeline.unload_lora_weights()
    PeftModel.from_pretrained(pipeline.text_encoder, tmp_path / "peft" / "text_encoder")
    PeftModel.from_pretrained(pipeline.unet, tmp_path / "peft" / "unet")
    assert np.array_equal(picture(pipeline), wanted)


def test_the_poets_logits_are_the_same_after_a_conversion(tmp_path: Path) -> None:
    tokenizer, poet = load_poet()
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["c_attn", "c_proj"], alpha_pattern={"mlp.c_proj": 2}, fan_in_fan_out=True
    )
    torch.manual_seed(0)
    adapted = get_peft_model(poet, config).eval()
    for name, parameter in adapted.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(tmp_path / "original", save_embedding_layers=False)
    tokens = torch.tensor([tokenizer("春眠不觉晓")["input_ids"]])
    with torch.no_grad():
        wanted = adapted(tokens).logits
    convert(tmp_path / "original", tmp_path / "converted", "peft")
    _, fresh = load_poet()
    with torch.no_grad():
        assert not torch.equal(fresh.eval()(tokens).logits, wanted)
        load_adapter(fresh, tmp_path / "converted")
        assert torch.equal(fresh(tokens).logits, wanted)
        _, other = load_poet()
        theirs = PeftModel.from_pretrained(other, tmp_path / "converted").eval()
        assert torch.equal(theirs(tokens).logits, wanted)


def test_a_dora_gives_the_same_numbers_after_a_conversion(tmp_path: Path) -> None:
    base = load_pipeline().text_encoder
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "fc2"], use_dora=True)
    torch.manual_seed(0)
    inject_adapter_in_model(config, base, "default")
    for name, parameter in base.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.05)
        elif "magnitude" in name:
            parameter.data *= 1.1
    tokens = torch.arange(2, 10).unsqueeze(0)
    with torch.no_grad():
        wanted = base(tokens).last_hidden_state
    folder = tmp_path / "theirs"
    StableDiffusionPipeline.save_lora_weights(
        folder,
        text_encoder_lora_layers=get_peft_model_state_dict(base),
        **_collate_lora_metadata({"text_encoder": base}),
    )
    convert(folder, tmp_path / "kohya.safetensors", "kohya")
    fresh = load_pipeline().text_encoder
    load_adapter(fresh, tmp_path / "kohya.safetensors")
    with torch.no_grad():
        assert torch.equal(fresh(tokens).last_hidden_state, wanted)

"""A half-precision run draws while it trains, leaves the model with the forward that it came with, and in float16 goes
on after a step whose gradient overflowed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from tiny_training import SETTINGS, TinyBatches, tiny_loss, tiny_model, train_tiny
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

from aigc_helpers.images import LatentBatches, denoising_loss, draw_many
from aigc_helpers.profile import Profile
from aigc_helpers.store import install_asset
from aigc_helpers.training import FitSettings, fit

LATENT_SIDE, TEXT_WIDTH, TOKENS = 8, 16, 8


@pytest.fixture(autouse=True)
def half_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a GPU has, on the CPU. Accelerate keeps the precision of its first run for the whole process."""
    monkeypatch.setattr("aigc_helpers.training.loop.current_profile", lambda: Profile("full", "cpu", "bfloat16"))
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def half_precision_pipeline() -> StableDiffusionPipeline:
    """Return a Stable Diffusion of two blocks in bfloat16, with random weights and a LoRA in float32 on the UNet."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(install_asset("sd", "embedded") / "tokenizer", model_max_length=TOKENS)
    text = {"hidden_size": TEXT_WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": TOKENS}
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=LATENT_SIDE,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            block_out_channels=(8,),
            layers_per_block=1,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=2,
            norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.requires_grad_(False)
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"]))
    cast_training_params(pipeline.unet, dtype=torch.float32)
    return pipeline


def test_a_pipeline_draws_while_its_unet_trains_and_afterwards_the_same() -> None:
    pipeline = half_precision_pipeline()
    drawn: list[bytes] = []

    def watch() -> dict[str, float]:
        pictures = draw_many(pipeline, ["fox", "owl"], seed=0, steps=2, guidance=4.0)
        drawn.append(b"".join(picture.tobytes() for picture in pictures))
        return {"pictures": len(pictures)}

    watch()
    batches = LatentBatches(
        torch.randn(8, 4, LATENT_SIDE, LATENT_SIDE),
        torch.randn(8, 1, TOKENS, TEXT_WIDTH),
        torch.randn(TOKENS, TEXT_WIDTH),
        batch_size=4,
    )
    settings = FitSettings(epochs=2, learning_rate=0.1, evaluate_every=2)
    result = fit(
        pipeline.unet,
        batches,
        lambda unet, batch: denoising_loss(unet, batch, pipeline.scheduler),
        settings,
        evaluate=watch,
    )
    assert result.curve("pictures") == ([2, 4], [2, 2])
    watch()
    before, _, at_the_end, afterwards = drawn
    assert at_the_end == afterwards != before


def test_the_model_keeps_its_own_forward() -> None:
    model = tiny_model()
    seen: list[tuple[bool, bool]] = []

    def look() -> dict[str, float]:
        seen.append(("forward" in vars(model), torch.is_autocast_enabled("cpu")))
        return {}

    fit(model, TinyBatches(), tiny_loss, SETTINGS, evaluate=look)
    assert set(seen) == {(False, False)}
    assert "forward" not in vars(model) and "_original_forward" not in vars(model)


def test_a_training_step_computes_in_half_precision() -> None:
    model = tiny_model()
    computed: set[torch.dtype] = set()
    model[3].register_forward_hook(lambda _module, _inputs, output: computed.add(output.dtype))
    fit(model, TinyBatches(), tiny_loss, SETTINGS)
    assert computed == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


class OnAnOlderGpu(Accelerator):
    """Computes in float16 with scaled gradients, as on a T4. torch does so on the CPU, too; Accelerate does not."""

    scalers: ClassVar[list[torch.amp.GradScaler]] = []

    def __init__(self, **settings: Any) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        super().__init__(**settings | {"mixed_precision": "bf16"})
        self.state._mixed_precision = "fp16"
        self.scaler = torch.amp.GradScaler("cpu")
        self.scalers.append(self.scaler)


@pytest.fixture
def float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aigc_helpers.training.loop.current_profile", lambda: Profile("full", "cpu", "float16"))
    monkeypatch.setattr("aigc_helpers.training.loop.Accelerator", OnAnOlderGpu)


def test_a_run_in_float16_goes_on_after_steps_that_overflow(float16: None) -> None:
    model = tiny_model()
    computed: set[torch.dtype] = set()
    model[3].register_forward_hook(lambda _module, _inputs, output: computed.add(output.dtype))
    # At first the scaler multiplies by 65,536, which is more than float16 holds.
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where a schedule goes on without the optimizer.
        result = fit(model, TinyBatches(), lambda model, batch: 100 * tiny_loss(model, batch), SETTINGS)
    losses = result.curve("loss")[1]
    assert computed == {torch.float16}
    assert OnAnOlderGpu.scalers[-1].get_scale() < 65_536
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert sum(losses[-10:]) < sum(losses[:10])


def test_a_run_in_float16_resumes_with_the_scale_that_it_had(float16: None, tmp_path: Path) -> None:
    undisturbed, _ = train_tiny(tmp_path)
    scale = OnAnOlderGpu.scalers[-1].get_scale()
    _, newest = sorted(tmp_path.glob("checkpoint-*"))
    newest.unlink()
    resumed, _ = train_tiny(tmp_path)
    assert torch.equal(resumed[3].weight, undisturbed[3].weight)
    assert OnAnOlderGpu.scalers[-1].get_scale() == scale

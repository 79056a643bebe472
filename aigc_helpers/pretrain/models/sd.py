"""Builds ``data/sd``: a Stable Diffusion in miniature that draws emoji on coloured backgrounds."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedTokenizerBase, set_seed

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import write_text
from aigc_helpers.images import (
    BASE_STYLES,
    HELD_OUT_CONCEPTS,
    TRAINING_FILE,
    EmojiSet,
    LatentBatches,
    denoising_loss,
    encode_pictures,
    latent_batches,
    load_emoji,
    to_pixels,
    training_colours,
)
from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.models.autoencoder import LATENT_CHANNELS, build_autoencoder
from aigc_helpers.pretrain.models.clip import CLIP_FOLDER, TEXT_WIDTH
from aigc_helpers.pretrain.models.export import export, in_half_precision
from aigc_helpers.profile import current_profile
from aigc_helpers.store import store_folder
from aigc_helpers.training import FitResult, FitSettings, fit

logger = logging.getLogger(__name__)
SD_FOLDER = DATA / "sd"
# Two CPU cores learn about this much in an hour: animals, plants, food, and these things.
_CPU_GROUPS = ("Animals & Nature", "Food & Drink")
_CPU_THINGS = (
    "airplane automobile balloon bicycle camera castle crown fire game-die gem-stone ghost guitar house key kite "
    "light-bulb mountain rainbow robot rocket sailboat snowman soccer-ball star sun teddy-bear top-hat train umbrella "
    "violin"
)

# Attention stands at 4 × 4 alone, where a position sees the whole picture for a quarter of the cost.
CHANNELS = (96, 160)
BATCH_SIZE = 64
SETTINGS = FitSettings(
    epochs=90,
    learning_rate=1e-3,
    schedule="cosine",
    warmup=0.02,
    weight_decay=0.01,
    checkpoint_every=200,
)


def base_concepts(emoji: EmojiSet, device: str) -> tuple[str, ...]:
    """Return the concepts that the base learns: on a GPU all but those held out, on a CPU some 300 of them."""
    in_time = set(emoji.names)
    if device == "cpu":
        in_time = {name for name, group in zip(emoji.names, emoji.groups, strict=True) if group in _CPU_GROUPS}
        in_time |= set(_CPU_THINGS.split())
    return tuple(name for name in emoji.names if name in in_time - set(HELD_OUT_CONCEPTS))


def build_sd(target: Path = SD_FOLDER, settings: FitSettings = SETTINGS) -> FitResult:
    """Train autoencoder and UNet, and write the pipeline's folder into ``target``. The text encoder is ``clip``'s.

    Checkpoints and logs lie in the store under ``pretrain/``: stopped at any moment, the same call goes on and ends
    with the same weights. A GPU is used where there is one.

    Raises:
        ReaderError: clip has not been built, the emoji are missing or altered, or the checkpoints are those of another
            run.
    """
    if not CLIP_FOLDER.is_dir():
        raise ReaderError(f"{CLIP_FOLDER} is not there, and sd reads prompts with its text encoder: aigc pretrain clip")
    emoji = load_emoji()
    autoencoder = build_autoencoder(emoji)
    device = current_profile().device
    text_encoder = CLIPTextModel.from_pretrained(CLIP_FOLDER, dtype=torch.float32, use_safetensors=True)
    text_encoder.to(device).eval()  # type: ignore[arg-type]  # transformers' wrapper around to() loses self.
    tokenizer = AutoTokenizer.from_pretrained(CLIP_FOLDER, trust_remote_code=False)
    concepts = base_concepts(emoji, device)
    training = training_batches(emoji.only(concepts), autoencoder, text_encoder, tokenizer, settings.seed)
    unet = build_unet(settings.seed)
    scheduler = build_scheduler()
    logger.info("UNet: %d parameters, %d concepts, %d batches", unet.num_parameters(), len(concepts), len(training))
    folder = store_folder() / "pretrain" / "sd"
    result = fit(unet, training, partial(denoising_loss, scheduler=scheduler), settings, folder=folder)
    parts: dict[str, Any] = {  # The pipeline's annotations admit neither None nor the tokenizers of today.
        "vae": in_half_precision(autoencoder),
        "text_encoder": in_half_precision(text_encoder),
        "tokenizer": tokenizer,
        "unet": in_half_precision(unet),
        "scheduler": scheduler,
        "safety_checker": None,
        "feature_extractor": None,
    }
    export(target, StableDiffusionPipeline(**parts, requires_safety_checker=False))
    shown = {"concepts": concepts, "styles": BASE_STYLES, "held out": HELD_OUT_CONCEPTS}
    write_text(target / TRAINING_FILE, json.dumps(shown, indent=1) + "\n")
    return result


def training_batches(
    emoji: EmojiSet,
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> LatentBatches:
    """Return all concepts of ``emoji`` in the base's styles, on the backgrounds they have in training, encoded.

    Sets the autoencoder's ``scaling_factor``, so that latents have unit variance.
    """
    facts = emoji.facts(BASE_STYLES, training_colours)
    autoencoder.register_to_config(scaling_factor=1.0)
    latents = encode_pictures(autoencoder, to_pixels(emoji.pictures(facts)))
    autoencoder.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    latents *= autoencoder.config["scaling_factor"]
    return latent_batches(latents, emoji.captions(facts), text_encoder, tokenizer, BATCH_SIZE, seed)


def build_unet(seed: int) -> UNet2DConditionModel:
    """Return the UNet with random weights."""
    set_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers means the number of heads here.
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Return the noise schedule of Stable Diffusion 1.5, sampled by DDIM (Song et al. 2021)."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )

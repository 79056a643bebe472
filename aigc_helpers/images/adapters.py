"""Trains LoRAs for the Stable Diffusion in miniature: a computed look, a style it has not seen, or a new concept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import set_seed

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.files import replacing_files
from aigc_helpers.images.backgrounds import caption, chinese_caption
from aigc_helpers.images.denoising import denoising_loss, encode_pictures, latent_batches
from aigc_helpers.images.emoji import BASE_STYLES, HELD_OUT_CONCEPTS, EmojiSet, load_emoji, training_colours
from aigc_helpers.images.generate import load_pipeline, read_shown_in_training
from aigc_helpers.images.looks import in_sepia
from aigc_helpers.images.pixels import to_pixels
from aigc_helpers.training.fit import FitResult, FitSettings, fit

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

LORA_FILE = "pytorch_lora_weights.safetensors"  # As diffusers names it.
TRIGGER_WORD = "sks"
TEST_CONCEPTS = 40  # Of the base's concepts, kept out of the training of fluent.
_SEPIA_CONCEPTS = 40
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_CONVOLUTIONS = ("conv1", "conv2")  # A look changes every pixel, and 8 x 8 latents have no attention above 4 x 4.
_BATCH_SIZE = 32


@dataclass(frozen=True)
class _Defaults:
    rank: int
    learning_rate: float
    steps: int
    layers: tuple[str, ...]


_DEFAULTS = {
    "sepia": _Defaults(rank=16, learning_rate=3e-3, steps=120, layers=_ATTENTION + _CONVOLUTIONS),
    "fluent": _Defaults(rank=16, learning_rate=1e-3, steps=300, layers=_ATTENTION),
}
_CONCEPT_DEFAULTS = _Defaults(rank=8, learning_rate=1e-3, steps=200, layers=_ATTENTION)


class TrainedPictureAdapter(NamedTuple):
    """What a training returns: the pipeline with the LoRA on its UNet, and what ``fit`` did."""

    pipeline: StableDiffusionPipeline
    result: FitResult


@dataclass(frozen=True)
class CaptionedPictures:
    """Pictures (count × 64 × 64 × RGB, uint8) and the captions of each, one per language."""

    pictures: np.ndarray
    captions: list[tuple[str, ...]]


def train_picture_adapter(
    what: str,
    rank: int | None = None,
    learning_rate: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    *,
    checkpoints: Path | None = None,
    base: Path | None = None,
) -> TrainedPictureAdapter:
    """Train a LoRA on the pipeline's UNet.

    Args:
        what: ``"sepia"``, ``"fluent"``, or a concept the base has not seen, such as ``"koala"``.
        rank: of the LoRA; alpha is the same. By default what suits ``what``, as with the next two.
        learning_rate: the peak of the schedule.
        steps: of the optimizer.
        seed: of weights, order and noise.
        checkpoints: the folder for ``fit``'s checkpoints, from which an interrupted run goes on.
        base: the folder of the pipeline; by default the catalog's.

    Raises:
        UnknownNameError: ``what`` is none of them.
        ReaderError: a number out of its range, the base does not load, or the checkpoints are those of another run.
    """
    defaults = _defaults_of(what)
    rank = defaults.rank if rank is None else rank
    learning_rate = defaults.learning_rate if learning_rate is None else learning_rate
    steps = defaults.steps if steps is None else steps
    _check_numbers(rank, learning_rate, steps)
    pipeline = load_pipeline(base)
    shown = pictures_for(what, load_emoji(), read_shown_in_training(base).concepts)
    latents = encode_pictures(pipeline.vae, to_pixels(shown.pictures))
    batches = latent_batches(latents, shown.captions, pipeline.text_encoder, pipeline.tokenizer, _BATCH_SIZE, seed)
    set_seed(seed)
    pipeline.unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(defaults.layers))
    pipeline.unet.add_adapter(config)
    settings = FitSettings(
        epochs=steps / len(batches), learning_rate=learning_rate, schedule="cosine", warmup=0.05, seed=seed
    )
    loss = partial(denoising_loss, scheduler=pipeline.scheduler)
    return TrainedPictureAdapter(pipeline, fit(pipeline.unet, batches, loss, settings, folder=checkpoints))


def save_picture_adapter(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the LoRA into ``folder``, where ``pipeline.load_lora_weights(folder)`` finds it, whole or not at all.

    Rank and alpha stand in the file's header: without them a file is read as if alpha were the rank.

    Raises:
        ReaderError: the disk is full or the folder is not writable; what was there stays.
    """
    with replacing_files(folder) as temporary:
        metadata = _collate_lora_metadata({"unet": pipeline.unet})
        pipeline.save_lora_weights(temporary, get_peft_model_state_dict(pipeline.unet), **metadata)


def pictures_for(what: str, emoji: EmojiSet, base_concepts: tuple[str, ...]) -> CaptionedPictures:
    """Return what a LoRA for ``what`` is trained on, on the backgrounds that each concept has in training.

    Args:
        what: as ``train_picture_adapter`` takes it.
        emoji: all concepts.
        base_concepts: those the base was trained on.

    Raises:
        UnknownNameError: ``what`` is nothing that a LoRA can be trained on here.
    """
    _defaults_of(what)
    if what == "sepia":
        shown = emoji.only(_shuffled(base_concepts)[:_SEPIA_CONCEPTS])
        facts = shown.facts(BASE_STYLES[:1], training_colours)
        named = [one._replace(style=what) for one in facts]
        return CaptionedPictures(in_sepia(shown.pictures(facts)), shown.captions(named))
    if what == "fluent":
        shown = emoji.only(_shuffled(base_concepts)[TEST_CONCEPTS:])
        facts = shown.facts((what,), training_colours)
        return CaptionedPictures(shown.pictures(facts), shown.captions(facts))
    shown = emoji.only((what,))
    facts = shown.facts(BASE_STYLES, training_colours)
    words = [(TRIGGER_WORD, style, colour) for _, style, colour in facts]
    return CaptionedPictures(shown.pictures(facts), [(caption(*three), chinese_caption(*three)) for three in words])


def unseen_concepts(what: str, base_concepts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the concepts of the base that a LoRA for ``what`` is not shown: there one sees what it has learned."""
    shuffled = _shuffled(base_concepts)
    if what == "sepia":
        return shuffled[_SEPIA_CONCEPTS:]
    return shuffled[:TEST_CONCEPTS] if what == "fluent" else shuffled


def _shuffled(names: tuple[str, ...]) -> tuple[str, ...]:
    # Always the same order: which concepts are for testing must not depend on a run's seed.
    return tuple(names[number] for number in np.random.default_rng(0).permutation(len(names)))


def _defaults_of(what: str) -> _Defaults:
    if what in HELD_OUT_CONCEPTS:
        return _CONCEPT_DEFAULTS
    if what not in _DEFAULTS:
        raise UnknownNameError("look, style or concept to train", what, (*_DEFAULTS, *HELD_OUT_CONCEPTS))
    return _DEFAULTS[what]


def _check_numbers(rank: int, learning_rate: float, steps: int) -> None:
    if rank < 1:
        raise ReaderError(f"a rank of {rank} is not possible: it must be 1 or more.")
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ReaderError(f"a learning rate of {learning_rate:g} is not possible: it must be above 0.")
    if steps < 1:
        raise ReaderError(f"{steps} steps are not possible: 1 or more are.")

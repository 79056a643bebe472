"""Trains LoRAs for the Stable Diffusion in miniature: a computed look, a style it has not seen, or a new concept."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import set_seed

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.files import replacing
from aigc_helpers.images.backgrounds import caption, chinese_caption
from aigc_helpers.images.denoising import LatentBatches, denoising_loss, encode_captions, encode_pictures
from aigc_helpers.images.emoji import BASE_STYLES, HELD_OUT_CONCEPTS, LANGUAGES, EmojiSet, load_emoji, training_colours
from aigc_helpers.images.generate import load_pipeline, read_shown_in_training
from aigc_helpers.images.pixels import to_pixels
from aigc_helpers.training.fit import FitResult, FitSettings, fit

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

LORA_FILE = "pytorch_lora_weights.safetensors"  # As diffusers names it.
TRIGGER_WORD = "sks"
TEST_CONCEPTS = 40  # Of the base's concepts, kept out of the training of fluent.
_SEPIA_CONCEPTS = 40
_SEPIA_DARK, _SEPIA_LIGHT = np.array([45.0, 25.0, 10.0]), np.array([255.0, 240.0, 205.0])
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601.
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
    "sepia": _Defaults(rank=8, learning_rate=5e-4, steps=150, layers=_ATTENTION + _CONVOLUTIONS),
    "fluent": _Defaults(rank=16, learning_rate=1e-3, steps=300, layers=_ATTENTION),
}
_CONCEPT_DEFAULTS = _Defaults(rank=8, learning_rate=1e-3, steps=200, layers=_ATTENTION)


@dataclass(frozen=True)
class CaptionedPictures:
    """Pictures (count × 64 × 64 × RGB, uint8) and the captions of each, one per language."""

    pictures: np.ndarray
    captions: list[tuple[str, ...]]


def train_picture_adapter(
    what: str,
    folder: Path,
    rank: int | None = None,
    learning_rate: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    *,
    base: Path | None = None,
) -> FitResult:
    """Train a LoRA on the UNet and write it into ``folder``, where ``pipeline.load_lora_weights(folder)`` finds it.

    Checkpoints lie beside ``folder`` until the file is written: stopped at any moment, the same call goes on.

    Args:
        what: ``"sepia"``, ``"fluent"``, or a concept the base has not seen, such as ``"koala"``.
        folder: gets ``pytorch_lora_weights.safetensors``, whole or not at all.
        rank: of the LoRA; alpha is the same. By default what suits ``what``, as with the next two.
        learning_rate: the peak of the schedule.
        steps: of the optimizer.
        seed: of weights, order and noise.
        base: the folder of the pipeline; by default the catalog's.

    Raises:
        UnknownNameError: ``what`` is none of them.
        ReaderError: a number out of its range, the base does not load, or the folder cannot be written.
    """
    defaults = _defaults_of(what)
    rank = defaults.rank if rank is None else rank
    learning_rate = defaults.learning_rate if learning_rate is None else learning_rate
    steps = defaults.steps if steps is None else steps
    _check_numbers(rank, learning_rate, steps)
    folder = folder.resolve()
    if folder.is_file():
        raise ReaderError(f"{folder} is a file, and the LoRA needs a folder. Name another one.")
    pipeline = load_pipeline(base)
    pictures = pictures_for(what, load_emoji(), read_shown_in_training(base).concepts)
    batches = _encode(pictures, pipeline, seed)
    set_seed(seed)
    pipeline.unet.requires_grad_(False)
    # Alpha equals rank, because files without an alpha are read so.
    config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(defaults.layers))
    pipeline.unet.add_adapter(config)
    settings = FitSettings(
        epochs=steps / len(batches), learning_rate=learning_rate, schedule="cosine", warmup=0.05, seed=seed
    )
    checkpoints = folder.with_name(f"{folder.name}.{what}.checkpoints")
    loss = partial(denoising_loss, scheduler=pipeline.scheduler)
    result = fit(pipeline.unet, batches, loss, settings, folder=checkpoints)
    _save(pipeline, folder)
    shutil.rmtree(checkpoints)
    return result


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
        shown = _on_training_colours(emoji, _shuffled(base_concepts)[:_SEPIA_CONCEPTS], BASE_STYLES[:1])
        named = [(concept, what, colour) for concept, _, colour in shown]
        return CaptionedPictures(in_sepia(_pictures(emoji, shown)), _captions(emoji, named))
    if what == "fluent":
        shown = _on_training_colours(emoji, _shuffled(base_concepts)[TEST_CONCEPTS:], (what,))
        return CaptionedPictures(_pictures(emoji, shown), _captions(emoji, shown))
    shown = _on_training_colours(emoji, (what,), BASE_STYLES)
    words = [(TRIGGER_WORD, style, colour) for _, style, colour in shown]
    return CaptionedPictures(_pictures(emoji, shown), [(caption(*three), chinese_caption(*three)) for three in words])


def fluent_test_concepts(base_concepts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the concepts of the base that a fluent LoRA is not shown in that style."""
    return _shuffled(base_concepts)[:TEST_CONCEPTS]


def in_sepia(pictures: np.ndarray) -> np.ndarray:
    """Return pictures (… × RGB, uint8) with each pixel's luminance mapped onto a line from dark to light brown."""
    luminance = (pictures @ _LUMINANCE)[..., None] / 255
    return (_SEPIA_DARK + luminance * (_SEPIA_LIGHT - _SEPIA_DARK)).round().astype(np.uint8)


def _on_training_colours(
    emoji: EmojiSet, concepts: tuple[str, ...], styles: tuple[str, ...]
) -> list[tuple[int, str, str]]:
    return [
        (emoji.number_of[name], style, colour)
        for name in concepts
        for style in styles
        for colour in training_colours(name)
    ]


def _pictures(emoji: EmojiSet, shown: list[tuple[int, str, str]]) -> np.ndarray:
    return np.stack([emoji.picture(*one) for one in shown])


def _captions(emoji: EmojiSet, shown: list[tuple[int, str, str]]) -> list[tuple[str, ...]]:
    return [tuple(emoji.caption(*one, language) for language in LANGUAGES) for one in shown]


def _encode(shown: CaptionedPictures, pipeline: StableDiffusionPipeline, seed: int) -> LatentBatches:
    latents = encode_pictures(pipeline.vae, to_pixels(shown.pictures))
    every_caption = [text for captions in shown.captions for text in captions]
    text = encode_captions(pipeline.text_encoder, pipeline.tokenizer, ["", *every_caption])
    captions = text[1:].unflatten(0, (len(latents), len(LANGUAGES)))
    return LatentBatches(latents, captions, text[0], _BATCH_SIZE, seed)


def _save(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    with TemporaryDirectory() as temporary:
        layers = get_peft_model_state_dict(pipeline.unet)
        pipeline.save_lora_weights(temporary, unet_lora_layers=layers)
        with replacing(folder / LORA_FILE) as unfinished:
            unfinished.write_bytes((Path(temporary) / LORA_FILE).read_bytes())


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

"""Trains LoRAs for the Stable Diffusion in miniature: a computed look, a style it has not seen, or a new concept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import set_seed

from aigc_helpers.arguments import check_rank, check_seed
from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.files import replacing_files
from aigc_helpers.images.backgrounds import caption, chinese_caption
from aigc_helpers.images.captioned_pictures import CaptionedPictures, read_captioned_pictures
from aigc_helpers.images.denoising import denoising_loss, encode_pictures, latent_batches
from aigc_helpers.images.emoji import BASE_STYLES, HELD_OUT_CONCEPTS, EmojiSet, load_emoji, training_colours
from aigc_helpers.images.generate import load_pipeline, picture_side, read_shown_in_training
from aigc_helpers.images.looks import in_sepia
from aigc_helpers.images.pixels import to_pixels
from aigc_helpers.images.prompts import check_prompt
from aigc_helpers.training import FitResult, FitSettings, fit

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

LORA_FILE = "pytorch_lora_weights.safetensors"  # As diffusers names it.
TRIGGER_WORD = "sks"
TEST_CONCEPTS = 40  # Of the base's concepts, kept out of the training of fluent.
_SEPIA_CONCEPTS = 80
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS = ("conv1", "conv2")  # A look changes every pixel, and 8 x 8 latents have no attention above 4 x 4.
BATCH_SIZE = 16
_MOST_STEPS = 10_000_000  # Of training: months.


@dataclass(frozen=True)
class PictureAdapterSettings:
    """How a LoRA for pictures is trained.

    Attributes:
        rank: of every layer.
        layers: that get one, by the ends of their names.
        learning_rate: the peak of the schedule.
        steps: of the optimizer, with 16 pictures each.
        strength: alpha over rank, the factor of B·A.
        seed: of weights, order and noise.
    """

    rank: int
    layers: tuple[str, ...]
    learning_rate: float
    steps: int
    strength: int = 1
    seed: int = 0


# As measured in chapter 11.
SEPIA = PictureAdapterSettings(16, ATTENTION + CONVOLUTIONS, learning_rate=3e-3, steps=150, strength=2)
_FLUENT = PictureAdapterSettings(16, ATTENTION, learning_rate=1e-3, steps=300)
CONCEPT = PictureAdapterSettings(8, ATTENTION, learning_rate=3e-3, steps=80)
_SETTINGS = {"sepia": SEPIA, "fluent": _FLUENT} | dict.fromkeys(HELD_OUT_CONCEPTS, CONCEPT)


class TrainedPictureAdapter(NamedTuple):
    """What a training returns: the pipeline with the LoRA on its UNet, and what ``fit`` did."""

    pipeline: StableDiffusionPipeline
    result: FitResult


def train_picture_adapter(
    what: str,
    rank: int | None = None,
    learning_rate: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    *,
    skip_faulty: bool = False,
    checkpoints: Path | None = None,
    base: Path | None = None,
) -> TrainedPictureAdapter:
    """Train a LoRA on the pipeline's UNet.

    Args:
        what: ``"sepia"``, ``"fluent"``, a concept the base has not seen, such as ``"koala"``, or the path of a folder
            of pictures with captions.
        rank: of the LoRA. By default what suits ``what``, as with the next two.
        learning_rate: the peak of the schedule.
        steps: of the optimizer.
        seed: of weights, order and noise.
        skip_faulty: leave out pictures of a folder that cannot be trained on, instead of refusing it.
        checkpoints: the folder for ``fit``'s checkpoints, from which an interrupted run goes on.
        base: the folder of the pipeline; by default the catalog's.

    Raises:
        UnknownNameError: ``what`` is none of them.
        ReaderError: a number out of its range, a picture that cannot be trained on, the base does not load, or the
            checkpoints are those of another run.

    Example:
        >>> trained = train_picture_adapter("koala", rank=4, steps=1)
        >>> trained.result.steps, trained.pipeline.get_active_adapters()
        (1, ['default'])
    """
    usual = CONCEPT if is_picture_folder(what) else _settings_for(what)
    settings = replace(
        usual,
        rank=usual.rank if rank is None else rank,
        learning_rate=usual.learning_rate if learning_rate is None else learning_rate,
        steps=usual.steps if steps is None else steps,
        seed=seed,
    )
    _check_numbers(settings)
    pipeline = load_pipeline(base)
    if is_picture_folder(what):
        check_caption = partial(check_prompt, tokenizer=pipeline.tokenizer)
        shown = read_captioned_pictures(Path(what), picture_side(pipeline), check_caption, skip_faulty=skip_faulty)
    else:
        shown = pictures_for(what, load_emoji(), read_shown_in_training(base).concepts)
    return TrainedPictureAdapter(pipeline, fit_adapter(pipeline, shown, settings, checkpoints=checkpoints))


def is_picture_folder(what: str) -> bool:
    """Tell whether ``what`` is a folder; a name that can be trained is none, even where a folder is called so.

    Example:
        >>> from pathlib import Path
        >>> Path("my pictures").mkdir()
        >>> is_picture_folder("my pictures"), is_picture_folder("koala")
        (True, False)
    """
    return what not in _SETTINGS and Path(what).is_dir()


def fit_adapter(
    pipeline: StableDiffusionPipeline,
    shown: CaptionedPictures,
    settings: PictureAdapterSettings,
    *,
    checkpoints: Path | None = None,
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
) -> FitResult:
    """Put a LoRA on the pipeline's UNet and train it; the rest of the pipeline is frozen and stays as it is.

    Args:
        pipeline: without adapters.
        shown: what is to be learned.
        settings: of the LoRA and its training.
        checkpoints: the folder for ``fit``'s checkpoints.
        evaluate: measures in between, as ``fit`` takes it.
        evaluate_every: so many steps.

    Example:
        >>> from aigc_helpers.images import PictureAdapterSettings, load_emoji, load_pipeline, pictures_for
        >>> pipeline, koala = load_pipeline(), pictures_for("koala", load_emoji(), ())
        >>> settings = PictureAdapterSettings(rank=4, layers=("to_q", "to_v"), learning_rate=1e-3, steps=1)
        >>> fit_adapter(pipeline, koala, settings).steps
        1
    """
    latents = encode_pictures(pipeline.vae, to_pixels(shown.pictures))
    text = (pipeline.text_encoder, pipeline.tokenizer)
    batches = latent_batches(latents, shown.captions, *text, BATCH_SIZE, settings.seed)
    set_seed(settings.seed)
    pipeline.unet.requires_grad_(False)
    pipeline.unet.add_adapter(
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.strength * settings.rank,
            init_lora_weights="gaussian",
            target_modules=list(settings.layers),
        )
    )
    schedule = FitSettings(
        epochs=settings.steps / len(batches),
        learning_rate=settings.learning_rate,
        schedule="cosine",
        warmup=0.05,
        seed=settings.seed,
        evaluate_every=evaluate_every,
    )
    loss = partial(denoising_loss, scheduler=pipeline.scheduler)
    return fit(pipeline.unet, batches, loss, schedule, evaluate=evaluate, folder=checkpoints)


def save_picture_adapter(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the LoRA into ``folder``, where ``pipeline.load_lora_weights(folder)`` finds it, whole or not at all.

    Rank and alpha stand in the file's header: without them a file is read as if alpha were the rank.

    Raises:
        ReaderError: the disk is full or the folder is not writable; what was there stays.

    Example:
        >>> from pathlib import Path
        >>> from peft import LoraConfig
        >>> from aigc_helpers.images import load_pipeline
        >>> pipeline = load_pipeline()
        >>> pipeline.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"]))
        >>> save_picture_adapter(pipeline, Path("look"))
        >>> [path.name for path in Path("look").iterdir()]
        ['pytorch_lora_weights.safetensors']
    """
    with replacing_files(folder) as temporary:
        pipeline.save_lora_weights(
            temporary,
            get_peft_model_state_dict(pipeline.unet),
            unet_lora_adapter_metadata=pipeline.unet.peft_config["default"].to_dict(),
        )


def pictures_for(what: str, emoji: EmojiSet, base_concepts: tuple[str, ...]) -> CaptionedPictures:
    """Return what a LoRA for ``what`` is trained on, on the backgrounds that each concept has in training.

    Args:
        what: as ``train_picture_adapter`` takes it.
        emoji: all concepts.
        base_concepts: those the base was trained on.

    Raises:
        UnknownNameError: ``what`` is nothing that a LoRA can be trained on here.

    Example:
        >>> from aigc_helpers.images import load_emoji
        >>> koala = pictures_for("koala", load_emoji(), base_concepts=())
        >>> koala.pictures.shape, koala.captions[0]
        ((16, 64, 64, 3), ('sks, noto style, red background', 'sks，noto 风格，红色背景'))
    """
    _settings_for(what)
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
    """Return the concepts of the base that a LoRA for ``what`` is not shown: there one sees what it has learned.

    Example:
        >>> from aigc_helpers.images import read_shown_in_training
        >>> base = read_shown_in_training().concepts
        >>> len(base), len(unseen_concepts("sepia", base))
        (306, 226)
    """
    shuffled = _shuffled(base_concepts)
    if what == "sepia":
        return shuffled[_SEPIA_CONCEPTS:]
    return shuffled[:TEST_CONCEPTS] if what == "fluent" else shuffled


def _shuffled(names: tuple[str, ...]) -> tuple[str, ...]:
    # Always the same order: which concepts are for testing must not depend on a run's seed.
    return tuple(names[number] for number in np.random.default_rng(0).permutation(len(names)))


def _settings_for(what: str) -> PictureAdapterSettings:
    if what not in _SETTINGS:
        raise UnknownNameError("look, style, concept or folder to train", what, _SETTINGS)
    return _SETTINGS[what]


def _check_numbers(settings: PictureAdapterSettings) -> None:
    check_seed(settings.seed)
    check_rank(settings.rank)
    if not (settings.learning_rate > 0 and math.isfinite(settings.learning_rate)):
        raise ReaderError(f"a learning rate of {settings.learning_rate:g} is not possible: it must be above 0.")
    if not 1 <= settings.steps <= _MOST_STEPS:
        raise ReaderError(f"{settings.steps:,} steps are not possible: 1 to {_MOST_STEPS:,} are.")

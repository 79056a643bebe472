"""Builds data/loras: small LoRAs in kohya's format, which chapter 10 installs as one installs a downloaded file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from aigc_helpers.images import (
    BATCH_SIZE,
    CONCEPT,
    LORA_FILE,
    SEPIA,
    TRIGGER_WORD,
    CaptionedPictures,
    PictureAdapterSettings,
    fit_adapter,
    load_emoji,
    load_pipeline,
    pictures_for,
    read_shown_in_training,
    save_picture_adapter,
    sd_folder,
)
from aigc_helpers.lora import convert
from aigc_helpers.paths import DATA
from aigc_helpers.profile import choose_profile

LORA_FOLDER = DATA / "loras"


class _Recipe(NamedTuple):
    settings: PictureAdapterSettings
    trigger: str
    description: str
    licence: str


# What aigc train sd takes for both, but for sepia's rank: the file is to be small.
_RECIPES = {
    "koala": _Recipe(
        CONCEPT,
        TRIGGER_WORD,
        "A koala, which the base has never seen",
        "Apache-2.0 (Noto), CC-BY-4.0 (Twemoji)",
    ),
    "sepia": _Recipe(replace(SEPIA, rank=4), "sepia style", "The look of a brown old photograph", "Apache-2.0 (Noto)"),
}


def build_loras() -> str:
    """Train each and write it to data/loras; returns a line with the sizes."""
    choose_profile("embedded")
    sizes = [f"{name} {_build(name, recipe):,} bytes" for name, recipe in _RECIPES.items()]
    return f"{', '.join(sizes)}; the files are in data/loras"


def _build(name: str, recipe: _Recipe) -> int:
    shown = pictures_for(name, load_emoji(), read_shown_in_training().concepts)
    pipeline = load_pipeline()
    fit_adapter(pipeline, shown, recipe.settings)
    target = LORA_FOLDER / f"{name}.safetensors"
    with TemporaryDirectory() as temporary:
        save_picture_adapter(pipeline, Path(temporary))
        file = Path(temporary) / LORA_FILE
        _to_half_precision(file, _training_metadata(name, recipe, shown))
        convert(file, target, "kohya", base=sd_folder())
    return target.stat().st_size


def _to_half_precision(file: Path, metadata: dict[str, str]) -> None:
    with safe_open(file, "pt") as opened:
        own = opened.metadata()  # Ranks and alphas.
    save_file({key: value.to(torch.float16) for key, value in load_file(file).items()}, file, own | metadata)


def _training_metadata(name: str, recipe: _Recipe, shown: CaptionedPictures) -> dict[str, str]:
    """Return what kohya's trainer would have written about this training, under its names."""
    tags = Counter(tag for english, _ in shown.captions for tag in english.split(", "))
    return {
        "ss_output_name": name,
        "ss_sd_model_name": "sd (AIGC workbook, Stable Diffusion in miniature)",
        "ss_resolution": "(64, 64)",
        "ss_num_train_images": str(len(shown.pictures)),
        "ss_steps": str(recipe.settings.steps),
        "ss_total_batch_size": str(BATCH_SIZE),
        "ss_unet_lr": f"{recipe.settings.learning_rate:g}",
        "ss_lr_scheduler": "cosine",
        "ss_seed": str(recipe.settings.seed),
        "ss_tag_frequency": json.dumps({name: dict(tags.most_common())}),
        "modelspec.title": name,
        "modelspec.author": "AIGC workbook",
        "modelspec.description": recipe.description,
        "modelspec.license": recipe.licence,
        "modelspec.trigger_phrase": recipe.trigger,
        "modelspec.resolution": "64x64",
    }

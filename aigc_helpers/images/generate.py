"""Pictures from prompts, by the Stable Diffusion in miniature (``data/sd``), with or without a LoRA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from safetensors import SafetensorError

from aigc_helpers.arguments import LARGEST_COUNT, check_scale, check_seed
from aigc_helpers.bounded_json import parse_json
from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.images.prompts import check_prompt
from aigc_helpers.lora import load_adapter
from aigc_helpers.profile import current_profile
from aigc_helpers.quiet import quiet
from aigc_helpers.store import install_asset

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

# Schedulers count from 1 here: with all 1,000 steps of training, the first time step would not exist.
MOST_STEPS = 999
_DRAWN_AT_ONCE = 32
_PIXELS_AT_ONCE = 2**20  # Four pictures of 512 x 512: the decoder's activations are what fills a GPU.
_ADAPTER = "lora"
TRAINING_FILE = "training.json"  # What a base was shown lies beside it, for whoever measures it.


@dataclass(frozen=True)
class ShownInTraining:
    """What a pipeline was trained to draw: the names of concepts, and styles."""

    concepts: tuple[str, ...]
    styles: tuple[str, ...]


def sd_folder(folder: Path | None = None) -> Path:
    """Return ``folder``, or the catalog's ``sd``, verified.

    Raises:
        ReaderError: its files are missing or altered.

    Example:
        >>> (sd_folder() / "model_index.json").is_file()
        True
    """
    return folder or install_asset("sd", "embedded")


def load_pipeline(folder: Path | None = None) -> StableDiffusionPipeline:
    """Load the pipeline in float32 on the profile's device, from ``folder`` or else data/sd; no network.

    Raises:
        ReaderError: the files are missing, altered, or no Stable Diffusion pipeline.

    Example:
        >>> type(load_pipeline()).__name__
        'StableDiffusionPipeline'
    """
    folder = sd_folder(folder)
    with quiet("diffusers", "transformers"):
        from diffusers import StableDiffusionPipeline

        try:
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
            raise ReaderError(
                f"{folder} does not load as a Stable Diffusion pipeline ({first_line(error)}). It must hold "
                "model_index.json and the folders named there, as pipeline.save_pretrained writes them."
            ) from error
    pipeline.set_progress_bar_config(disable=True)
    # diffusers loads its own models in float32, but transformers' in the precision of the file.
    pipeline.text_encoder.float()
    return pipeline.to(current_profile().device)


def read_shown_in_training(folder: Path | None = None) -> ShownInTraining:
    """Read what the pipeline in ``folder`` (or data/sd) was trained to draw, from the file beside it.

    Raises:
        ReaderError: that file is missing or damaged.

    Example:
        >>> shown = read_shown_in_training()
        >>> len(shown.concepts), shown.styles
        (306, ('noto', 'twemoji'))
    """
    path = sd_folder(folder) / TRAINING_FILE
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        return ShownInTraining(tuple(content["concepts"]), tuple(content["styles"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReaderError(
            f"{path} does not say which concepts and styles the model was trained on ({first_line(error)}). "
            "aigc pretrain sd writes this file beside the model."
        ) from error


def draw(
    prompt: str,
    count: int = 1,
    seed: int = 0,
    steps: int = 20,
    guidance: float = 4.0,
    negative_prompt: str = "",
    lora: str | Path | None = None,
    scale: float = 1.0,
    *,
    folder: Path | None = None,
) -> list[Image.Image]:
    """Draw pictures of 64 × 64 pixels.

    Args:
        prompt: such as ``"tiger, noto style, blue background"`` or ``"老虎，noto 风格，蓝色背景"``.
        count: how many; the second is what ``seed + 1`` draws alone, and so on.
        seed: of the noise that the pictures begin with.
        steps: of denoising, 1 to 999.
        guidance: how strongly the prompt steers (Ho & Salimans 2022); up to 1 it does no more than the model alone.
        negative_prompt: what to steer away from.
        lora: a file or folder of diffusers, kohya or PEFT.
        scale: of the LoRA; at 0 the picture is the base's.
        folder: the pipeline's; by default data/sd.

    Raises:
        ReaderError: a prompt the model could only read in part, a number out of its range, or a LoRA or pipeline that
            does not load. Nothing is drawn then.

    Example:
        >>> pictures = draw("tiger, noto style, blue background", count=2, steps=2)
        >>> [picture.size for picture in pictures]
        [(64, 64), (64, 64)]
    """
    check_seed(seed)
    check_scale(scale)
    _check_numbers(count, steps, guidance)
    pipeline = load_pipeline(folder)
    check_prompt(prompt, pipeline.tokenizer)
    if negative_prompt:
        check_prompt(negative_prompt, pipeline.tokenizer)
    if lora is not None:
        load_adapter(pipeline, lora, _ADAPTER)
        pipeline.set_adapters([_ADAPTER], [scale])
    return draw_many(pipeline, [prompt] * count, seed, steps, guidance, negative_prompt)


def draw_many(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    seed: int,
    steps: int,
    guidance: float,
    negative_prompt: str = "",
) -> list[Image.Image]:
    """Draw one picture per prompt, many at once; picture number n begins with the noise of ``seed + n``.

    A generator of its own per picture keeps it the same whatever else is drawn, up to rounding.

    Example:
        >>> from aigc_helpers.images import load_pipeline
        >>> prompts = ["tiger, noto style, blue background", "老虎，noto 风格，蓝色背景"]
        >>> len(draw_many(load_pipeline(), prompts, seed=0, steps=2, guidance=4.0))
        2
    """
    at_once = max(1, min(_DRAWN_AT_ONCE, _PIXELS_AT_ONCE // picture_side(pipeline) ** 2))
    pictures = []
    for start in range(0, len(prompts), at_once):
        some = list(prompts[start : start + at_once])
        # On the CPU, so that a GPU begins with the same noise.
        generators = [torch.Generator("cpu").manual_seed(seed + start + number) for number in range(len(some))]
        pictures += pipeline(
            some,
            num_inference_steps=steps,
            guidance_scale=guidance,
            negative_prompt=[negative_prompt] * len(some),
            generator=generators,
        ).images
    return pictures


def picture_side(pipeline: StableDiffusionPipeline) -> int:
    """Return the side of the pictures that the pipeline draws, in pixels."""
    return pipeline.unet.config.sample_size * pipeline.vae_scale_factor


def _check_numbers(count: int, steps: int, guidance: float) -> None:
    if not 1 <= count <= LARGEST_COUNT:
        raise ReaderError(f"{count:,} pictures cannot be drawn: count must be 1 to {LARGEST_COUNT:,}.")
    if not 1 <= steps <= MOST_STEPS:
        raise ReaderError(f"{steps} steps are not possible: 1 to {MOST_STEPS} are, and 20 are enough.")
    if not (guidance >= 0 and math.isfinite(guidance)):
        raise ReaderError(f"a guidance of {guidance:g} is not possible: it must be 0 or more; 4 is usual here.")

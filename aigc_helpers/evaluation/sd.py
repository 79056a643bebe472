"""How well the Stable Diffusion in miniature (``data/sd``) draws what a prompt says: concept, style and background."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from aigc_helpers.errors import ReaderError
from aigc_helpers.evaluation.drawings import References, judge
from aigc_helpers.files import replacing
from aigc_helpers.images import (
    BASE_STYLES,
    COLOURS,
    HELD_OUT_CONCEPTS,
    LANGUAGES,
    STYLES,
    EmojiSet,
    Facts,
    background,
    draw_many,
    encode_pictures,
    held_out_colours,
    load_clip,
    load_emoji,
    load_pipeline,
    read_shown_in_training,
    to_array,
    to_pictures,
    to_pixels,
    training_colours,
)

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

STEPS, GUIDANCE = 20, 4.0
_TIMED_PICTURES = 5

# One of each for the contact sheet: animals, plants, food and things that every base learns.
SHEET_CONCEPTS = (
    "tiger elephant penguin octopus butterfly owl frog turtle dolphin fox panda rabbit whale honeybee parrot crab "
    "red-apple banana watermelon strawberry pizza hamburger doughnut ice-cream carrot avocado croissant sushi "
    "cactus sunflower mushroom tulip "
    "lion horse pig-face dog-face cat-face chicken spider shark snake bear hedgehog unicorn dragon-face lady-beetle "
    "lemon grapes pear cherries ear-of-corn tomato cheese-wedge cookie lollipop teapot "
    "palm-tree rose maple-leaf four-leaf-clover rocket castle rainbow robot"
)
_SHEET_COLUMNS = 8
_ENLARGED = 2
_LINE_HEIGHT = 18
# Searched by file name in the system's font folders; the number picks the face with simplified characters.
_CHINESE_FONTS = (("NotoSansCJK-Regular.ttc", 2), ("msyh.ttc", 0), ("PingFang.ttc", 0), ("wqy-microhei.ttc", 0))


def evaluate_sd(
    folder: Path | None = None, clip_folder: Path | None = None, pictures: int = 256, seed: int = 0
) -> dict[str, Any]:
    """Measure what the pipeline draws at 20 steps and guidance 4, and what its autoencoder keeps.

    Four sets of prompts: pairs of concept and background seen in training, and pairs never seen, each in English and,
    with the same facts and seeds, in Chinese.

    Args:
        folder: the pipeline's; by default the catalog's.
        clip_folder: of the CLIP that compares; by default the catalog's.
        pictures: per set.
        seed: of the choice of prompts, and of the pictures.

    Returns:
        A dict that JSON can hold; shares from 0 to 1 as ``mean``, ``low`` and ``high`` of the 95 % interval.

    Raises:
        ReaderError: a model or the emoji are missing or altered, or there are not as many prompts.
    """
    shown = read_shown_in_training(folder)
    everything = load_emoji()
    emoji = everything.only(shown.concepts)
    facts = {
        "pairs seen": _choose_facts(emoji, shown.styles, training_colours, pictures, seed),
        "pairs never seen": _choose_facts(emoji, shown.styles, held_out_colours, pictures, seed),
    }
    pipeline = load_pipeline(folder)
    references = References(emoji, load_clip(clip_folder)[0])
    figures: dict[str, Any] = {
        "concepts": len(emoji.names),
        "styles": ", ".join(shown.styles),
        "pictures per set": pictures,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "seed": seed,
    }
    for name, some in facts.items():
        figures[name] = {}
        for language in LANGUAGES:
            drawn = _draw_facts(pipeline, emoji, some, language, seed)
            figures[name][language] = judge(drawn, some, references, shown.styles)
    figures["autoencoder PSNR in dB"] = {
        "concepts and styles of the base": _psnr(pipeline.vae, emoji, shown.styles),
        "fluent": _psnr(pipeline.vae, emoji, tuple(style for style in STYLES if style not in shown.styles)),
        "concepts held out": _psnr(pipeline.vae, everything.only(HELD_OUT_CONCEPTS), shown.styles),
    }
    figures["seconds per picture, once loaded"] = _seconds_per_picture(pipeline, emoji)
    figures["threads"] = torch.get_num_threads()
    return figures


def contact_sheet(pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Draw 64 fixed prompts, 8 × 8, as a WebP file: English captions above, Chinese ones in the lower half.

    Raises:
        ReaderError: no font with Chinese characters is installed, or ``target`` cannot be written.
    """
    font = _chinese_font()
    emoji = load_emoji().only(tuple(SHEET_CONCEPTS.split()))
    count = len(emoji.names)
    rows, columns = np.divmod(np.arange(count), _SHEET_COLUMNS)
    facts = [
        Facts(number, BASE_STYLES[(row + column) % 2], COLOURS[(column + 3 * row) % len(COLOURS)])
        for number, (row, column) in enumerate(zip(rows, columns, strict=True))
    ]
    languages = ["en" if number < count // 2 else "zh" for number in range(count)]
    prompts = [emoji.caption(*fact, language) for fact, language in zip(facts, languages, strict=True)]
    pictures = draw_many(pipeline, prompts, 0, STEPS, GUIDANCE)
    side = pictures[0].width * _ENLARGED
    cell = (side + 8, side + 8 + 2 * _LINE_HEIGHT)
    sheet = Image.new("RGB", (cell[0] * _SHEET_COLUMNS, cell[1] * (count // _SHEET_COLUMNS)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (picture, fact, language) in enumerate(zip(pictures, facts, languages, strict=True)):
        left, top = cell[0] * (number % _SHEET_COLUMNS) + 4, cell[1] * (number // _SHEET_COLUMNS) + 4
        sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (left, top))
        name = emoji.chinese[fact.concept] if language == "zh" else emoji.english[fact.concept]
        colour = background(fact.colour).chinese if language == "zh" else fact.colour
        for line, text in enumerate((name, f"{fact.style}, {colour}")):
            place = (left + side / 2, top + side + line * _LINE_HEIGHT)
            pen.text(place, text, fill="black", font=font, anchor="ma")
    with replacing(target) as unfinished:
        sheet.save(unfinished, format="WEBP", quality=85, method=6)


def _choose_facts(
    emoji: EmojiSet, styles: Sequence[str], colours_of: Callable[[str], tuple[str, ...]], count: int, seed: int
) -> list[Facts]:
    possible = emoji.facts(styles, colours_of)
    if not 2 <= count <= len(possible):
        raise ReaderError(f"{count} pictures per set are not possible: 2 to {len(possible)} are.")
    return [possible[number] for number in np.random.default_rng(seed).choice(len(possible), count, replace=False)]


def _draw_facts(
    pipeline: StableDiffusionPipeline, emoji: EmojiSet, facts: Sequence[Facts], language: str, seed: int
) -> np.ndarray:
    prompts = [emoji.caption(*fact, language) for fact in facts]
    return to_array(draw_many(pipeline, prompts, seed, STEPS, GUIDANCE))


def _psnr(autoencoder: AutoencoderKL, emoji: EmojiSet, styles: Sequence[str]) -> float:
    """Return the PSNR over all pixels of all pictures, each on a background its concept never had in training."""
    pictures = emoji.pictures(emoji.facts(styles, lambda concept: held_out_colours(concept)[:1]))
    latents = encode_pictures(autoencoder, to_pixels(pictures)) / autoencoder.config["scaling_factor"]
    device = next(autoencoder.parameters()).device
    with torch.no_grad():
        decoded = np.concatenate(
            [to_pictures(autoencoder.decode(some.to(device)).sample) for some in latents.split(64)]
        )
    return float(10 * np.log10(255**2 / np.square(pictures.astype(float) - decoded).mean()))


def _seconds_per_picture(pipeline: StableDiffusionPipeline, emoji: EmojiSet) -> float:
    prompt = [emoji.caption(0, BASE_STYLES[0], COLOURS[0], "en")]
    draw_many(pipeline, prompt, 0, STEPS, GUIDANCE)  # The first one also pays for what is set up once.
    started = time.perf_counter()
    for number in range(_TIMED_PICTURES):
        draw_many(pipeline, prompt, number, STEPS, GUIDANCE)
    return (time.perf_counter() - started) / _TIMED_PICTURES


def _chinese_font() -> ImageFont.FreeTypeFont:
    for name, face in _CHINESE_FONTS:
        try:
            return ImageFont.truetype(name, size=14, index=face)
        except OSError:
            continue
    raise ReaderError(
        "no font with Chinese characters is installed. The contact sheet needs one of "
        f"{', '.join(name for name, _ in _CHINESE_FONTS)}; Noto Sans CJK is free."
    )

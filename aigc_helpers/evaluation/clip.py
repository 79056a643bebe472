"""How well the CLIP in miniature (``data/clip``) connects pictures and captions. Its figures are "tiny-CLIP"'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aigc_helpers.errors import ReaderError
from aigc_helpers.images import (
    COLOURS,
    LANGUAGES,
    STYLES,
    Facts,
    embed_captions,
    embed_pictures,
    held_out_colours,
    load_clip,
    load_emoji,
)
from aigc_helpers.metrics import check_pairs, proportion_interval

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

NAME = "tiny-CLIP"


def clip_score(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, pictures: np.ndarray, captions: Sequence[str]
) -> list[float]:
    """Return the CLIP score of each picture with its caption: 100 × cosine, not below 0 (Hessel et al. 2021).

    Another CLIP gives other numbers: name this one, "tiny-CLIP", beside them.

    Args:
        model: as ``load_clip`` gives it.
        tokenizer: the same.
        pictures: pictures × 64 × 64 × RGB, uint8.
        captions: one for each.

    Raises:
        ReaderError: there are none, not as many captions as pictures, or no such pictures.

    Example:
        >>> from aigc_helpers.images import load_clip, load_emoji
        >>> tiger = load_emoji().only(("tiger",)).picture(0, "noto", "blue")
        >>> pictures, captions = tiger[None].repeat(2, axis=0), ["tiger, noto style, blue background", "pizza"]
        >>> right, wrong = clip_score(*load_clip(), pictures, captions)
        >>> right > wrong
        True
    """
    check_pairs(captions, pictures)
    side = model.vision_model.config.image_size
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (side, side, 3):
        raise ReaderError(
            f"the pictures are {pictures.dtype} of shape {pictures.shape}; {NAME} takes uint8, pictures × {side} × "
            f"{side} × 3."
        )
    cosines = (embed_pictures(model, pictures) * embed_captions(model, tokenizer, captions)).sum(dim=1)
    return (100 * cosines.clamp(min=0)).tolist()


def evaluate_clip(folder: Path | None = None) -> dict[str, Any]:
    """Measure retrieval in both directions, in both languages, on backgrounds not seen in training.

    Each drawing is shown on one background that its concept never had in training. Candidates are the captions of all
    concepts in all styles with that same background, so that the colour is no clue; and the other way round, all
    drawings on the background that a caption names.

    Returns:
        A dict that JSON can hold; shares from 0 to 1 as ``mean``, ``low`` and ``high`` of the 95 % interval.

    Raises:
        ReaderError: the model or the emoji are missing or altered.
    """
    emoji = load_emoji()
    model, tokenizer = load_clip(folder)
    drawings = emoji.drawn
    colours = np.array([held_out_colours(emoji.names[concept])[0] for concept, _ in drawings])
    ranks = {
        (source, language): np.zeros(len(drawings), int) for source in ("picture", "caption") for language in LANGUAGES
    }
    for colour in COLOURS:
        asked = np.flatnonzero(colours == colour)
        pictures = embed_pictures(model, emoji.pictures(Facts(*drawing, colour) for drawing in drawings))
        for language in LANGUAGES:
            texts = [emoji.caption(*drawing, colour, language) for drawing in drawings]
            captions = embed_captions(model, tokenizer, texts)
            ranks["picture", language][asked] = _ranks(pictures[asked], captions, asked)
            ranks["caption", language][asked] = _ranks(captions[asked], pictures, asked)
    styles = np.array([style for _, style in drawings])
    return {
        "model": NAME,
        "concepts": len(emoji.names),
        "candidates": len(drawings),
        "picture to caption": {language: _shares(ranks["picture", language], styles) for language in LANGUAGES},
        "caption to picture": {language: _shares(ranks["caption", language], styles) for language in LANGUAGES},
    }


def _ranks(queries: torch.Tensor, candidates: torch.Tensor, right: np.ndarray) -> np.ndarray:
    """Return how many candidates are nearer to each query than the right one: 0 is a hit."""
    cosines = queries @ candidates.T
    own = cosines.gather(1, torch.from_numpy(right)[:, None])
    return (cosines > own).sum(dim=1).numpy()


def _shares(ranks: np.ndarray, styles: np.ndarray) -> dict[str, Any]:
    return {
        "top 1": proportion_interval(ranks < 1),
        "top 5": proportion_interval(ranks < 5),
        "top 1 by style": {style: proportion_interval(ranks[styles == style] < 1) for style in STYLES},
    }

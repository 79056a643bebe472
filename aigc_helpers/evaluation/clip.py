"""How well the CLIP in miniature (``data/clip``) connects pictures and captions. Its figures are "tiny-CLIP"'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.evaluation.intervals import share_of
from aigc_helpers.evaluation.refusals import check_pairs
from aigc_helpers.images.emoji import COLOURS, LANGUAGES, STYLES, Facts, held_out_colours, load_emoji
from aigc_helpers.images.pixels import to_pixels
from aigc_helpers.profile import current_profile
from aigc_helpers.weights.install import install

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

NAME = "tiny-CLIP"
_EMBEDDED_AT_ONCE = 256


def load_clip(folder: Path | None = None) -> tuple[CLIPModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer in float32 on the profile's device, from ``folder`` or else data/clip.

    Raises:
        ReaderError: the files are missing, altered, or no CLIP.
    """
    from safetensors import SafetensorError
    from transformers import AutoTokenizer, CLIPModel

    folder = folder or install("clip")
    try:
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ReaderError(
            f"{folder} does not load as a CLIP ({first_line(error)}). It must hold a CLIPModel and its tokenizer, as "
            "save_pretrained writes them."
        ) from error
    return model.to(current_profile().device).eval(), tokenizer


@torch.no_grad()
def embed_pictures(model: CLIPModel, pictures: np.ndarray) -> torch.Tensor:
    """Return the embeddings of pictures × 64 × 64 × RGB (uint8): pictures × width, each of length 1, on the CPU."""
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(pictures), _EMBEDDED_AT_ONCE):
        pixels = to_pixels(pictures[start : start + _EMBEDDED_AT_ONCE]).to(device)
        parts.append(model.visual_projection(model.vision_model(pixels).pooler_output).float().cpu())
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


@torch.no_grad()
def embed_captions(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, captions: Sequence[str]) -> torch.Tensor:
    """Return the embeddings of captions: captions × width, each of length 1, on the CPU."""
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(captions), _EMBEDDED_AT_ONCE):
        # No attention mask, as in training: no token looks at those behind it, and padding stands behind.
        token_ids = tokenizer(list(captions[start : start + _EMBEDDED_AT_ONCE]), padding=True, return_tensors="pt")
        hidden = model.text_model(token_ids["input_ids"].to(device)).pooler_output
        parts.append(model.text_projection(hidden).float().cpu())
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


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
    """
    check_pairs(captions, pictures)
    side = model.config.vision_config.image_size
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
        "top 1": share_of(ranks < 1),
        "top 5": share_of(ranks < 5),
        "top 1 by style": {style: share_of(ranks[styles == style] < 1) for style in STYLES},
    }

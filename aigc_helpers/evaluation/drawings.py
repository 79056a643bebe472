"""Whether drawn pictures show what their prompts say: concept, style and background."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aigc_helpers.evaluation.clip import NAME
from aigc_helpers.images import BASE_STYLES, LOOKS, STYLES, EmojiSet, Facts, embed_pictures, nearest_colour
from aigc_helpers.metrics import proportion_interval

if TYPE_CHECKING:
    from transformers import CLIPModel

_BORDER = 2  # Pixels on each side.
_FEWEST_BORDER_PIXELS = 32  # Of 496; with fewer the drawing hides the background, and its colour cannot be judged.


class References:
    """How the concepts look in truth, in a style or look on a background: what drawn pictures are compared with."""

    def __init__(self, emoji: EmojiSet, clip: CLIPModel) -> None:
        """Take the concepts to choose from, and the CLIP that compares."""
        self.emoji, self.clip = emoji, clip
        self.pictures = lru_cache(maxsize=None)(self._draw)
        self.embeddings = lru_cache(maxsize=None)(self._embed)

    def pixel_distances(self, pictures: np.ndarray, style: str, colour: str) -> np.ndarray:
        """Return mean squared errors (of values from 0 to 1): pictures × concepts."""
        flat = pictures.reshape(len(pictures), -1) / 255
        references = self.pictures(style, colour).reshape(len(self.emoji.names), -1) / 255
        squares = (flat**2).sum(axis=1)[:, None] + (references**2).sum(axis=1)
        return (squares - 2 * flat @ references.T) / flat.shape[1]

    def clip_distances(self, embeddings: torch.Tensor, style: str, colour: str) -> np.ndarray:
        """Return 1 - cosine of tiny-CLIP's embeddings (as ``embed_pictures`` gives them): pictures × concepts."""
        return 1 - (embeddings @ self.embeddings(style, colour).T).numpy()

    def _draw(self, style: str, colour: str) -> np.ndarray:
        if style in LOOKS:
            return LOOKS[style](self.pictures(BASE_STYLES[0], colour))
        return self.emoji.pictures(Facts(concept, style, colour) for concept in range(len(self.emoji.names)))

    def _embed(self, style: str, colour: str) -> torch.Tensor:
        return embed_pictures(self.clip, self.pictures(style, colour))


def judge(
    pictures: np.ndarray, facts: Sequence[Facts], references: References, styles: Sequence[str]
) -> dict[str, Any]:
    """Return how often concept, style and background of drawn pictures are those of the prompts.

    - Concept: of all concepts' references in the prompt's style on its background, the named one's is nearest.
    - Style: of the named concept's references in all ``styles``, the right one is nearest.
    - Background: of the ten colours, the named one is nearest to the median colour of the outer two pixels, where the
      reference leaves them free. Pictures whose reference leaves fewer than 32, or whose look changes backgrounds,
      too, are not counted.

    Args:
        pictures: drawn ones × 64 × 64 × RGB, uint8.
        facts: what the prompt of each stated.
        references: of all concepts to choose from.
        styles: to choose from.

    Example:
        >>> from aigc_helpers.evaluation import References
        >>> from aigc_helpers.images import Facts, load_clip, load_emoji
        >>> emoji = load_emoji().only(("tiger", "pizza"))
        >>> facts = [Facts(0, "noto", "blue"), Facts(1, "noto", "red")]
        >>> figures = judge(emoji.pictures(facts), facts, References(emoji, load_clip()[0]), ("noto", "twemoji"))
        >>> figures["concept by pixels"]["mean"], figures["background"]["mean"]
        (1.0, 1.0)
    """
    right = {
        f"{what} by {how}": np.zeros(len(facts), bool) for what in ("concept", "style") for how in (NAME, "pixels")
    }
    embeddings = embed_pictures(references.clip, pictures)
    for _, style, colour in sorted({Facts(0, style, colour) for _, style, colour in facts}):
        chosen = np.array([number for number, fact in enumerate(facts) if fact[1:] == (style, colour)])
        named = np.array([facts[number].concept for number in chosen])
        by_clip = {each: references.clip_distances(embeddings[chosen], each, colour) for each in styles}
        by_pixels = {each: references.pixel_distances(pictures[chosen], each, colour) for each in styles}
        for how, by_style in ((NAME, by_clip), ("pixels", by_pixels)):
            right[f"concept by {how}"][chosen] = by_style[style].argmin(axis=1) == named
            own = np.stack([by_style[each][np.arange(len(chosen)), named] for each in styles])
            right[f"style by {how}"][chosen] = own.argmin(axis=0) == list(styles).index(style)
    seen = [_background_is_right(*pair, references.emoji) for pair in zip(pictures, facts, strict=True)]
    counted = [one for one in seen if one is not None]
    figures: dict[str, Any] = {name: proportion_interval(values) for name, values in right.items()}
    if counted:
        figures["background"] = proportion_interval(counted)
    figures["pictures without enough border for the background"] = len(seen) - len(counted)
    return figures


def _background_is_right(picture: np.ndarray, fact: Facts, emoji: EmojiSet) -> bool | None:
    if fact.style in LOOKS:
        return None
    outer = np.ones(picture.shape[:2], bool)
    outer[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    free = outer & (emoji.drawings[fact.concept, STYLES.index(fact.style), ..., 3] == 0)
    if free.sum() < _FEWEST_BORDER_PIXELS:
        return None
    return nearest_colour(np.median(picture[free], axis=0)) == fact.colour

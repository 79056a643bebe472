"""Builds ``data/clip``: a CLIP in miniature, trained on emoji and their captions in English and Chinese."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, set_seed
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from aigc_helpers.images.backgrounds import background, lay_on
from aigc_helpers.images.emoji import (
    COLOURS,
    LANGUAGES,
    STYLES,
    EmojiSet,
    held_out_colours,
    load_emoji,
    training_colours,
)
from aigc_helpers.images.pixels import to_pixels
from aigc_helpers.images.prompts import CAPTION_TOKENS, build_tokenizer
from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.export import export, in_half_precision
from aigc_helpers.text.batches import pad_batch
from aigc_helpers.training.fit import FitResult, FitSettings, fit
from aigc_helpers.weights.store_folder import store_folder

logger = logging.getLogger(__name__)

CLIP_FOLDER = DATA / "clip"
TEXT_WIDTH, TEXT_LAYERS = 128, 3
IMAGE_WIDTH, IMAGE_LAYERS, PATCH_SIZE = 160, 4, 16
EMBEDDING_WIDTH = 256
HEAD_WIDTH = 32
# Words for LoRA lessons to fill with a meaning: they have a token, and no caption has them.
TRIGGER_WORDS = ("sks", "sepia")

BATCH_SIZE = 192
_NOISE = 0.1  # Standard deviation, of pixels from -1 to 1.
_SHADES = 25  # Of 255: how far a background's red, green and blue may lie from those of its name.
SETTINGS = FitSettings(
    epochs=100,
    learning_rate=1.5e-3,
    schedule="cosine",
    warmup=0.03,
    weight_decay=0.05,
    checkpoint_every=100,
)


class CaptionedPictures:
    """All drawings with captions, each once an epoch, on a random one of its concept's backgrounds in training.

    Half of the captions are Chinese. Drawings are moved by a pixel or two and made a little noisy, and backgrounds
    differ by a shade, so that what was learned holds on other backgrounds and for pictures that a model has drawn, too.
    """

    unit_name = "pictures"

    def __init__(self, emoji: EmojiSet, tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int) -> None:
        """Take the emoji, the tokenizer of their captions, and how many pictures make a batch."""
        self.emoji, self.tokenizer, self.batch_size, self.seed = emoji, tokenizer, batch_size, seed
        self.colours = [training_colours(name) for name in emoji.names]
        self._token_ids = lru_cache(maxsize=None)(self._encode)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.emoji.names) * len(STYLES) // self.batch_size

    def batch(self, epoch: int, position: int) -> dict[str, Any]:
        """Return a batch.

        It holds ``pixel_values`` (pictures × 3 × 64 × 64), ``input_ids`` (pictures × tokens), and ``facts``: the
        numbers of ``concepts``, ``styles`` and ``colours``.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.emoji.names) * len(STYLES))
        generator = np.random.default_rng([self.seed, epoch, position])
        pictures, token_ids, colours = [], [], []
        drawings = order[position * self.batch_size : (position + 1) * self.batch_size]
        for drawing in drawings:
            concept, style = divmod(int(drawing), len(STYLES))
            colour = str(generator.choice(self.colours[concept]))
            language = str(generator.choice(LANGUAGES))
            moved = np.roll(self.emoji.drawings[concept, style], generator.integers(-2, 3, size=2), axis=(0, 1))
            shade = np.array(background(colour).rgb) + generator.integers(-_SHADES, _SHADES + 1, size=3)
            pictures.append(lay_on(moved, shade.clip(0, 255)))
            token_ids.append(self._token_ids(concept, STYLES[style], colour, language))
            colours.append(COLOURS.index(colour))
        pixels = to_pixels(np.stack(pictures))
        noise = generator.standard_normal(pixels.shape, dtype=np.float32) * _NOISE
        # What stands behind a caption's end has no effect on the loss, so what is padding everywhere is cut off.
        padded = pad_batch([torch.tensor(ids) for ids in token_ids], self.tokenizer.pad_token_id)
        return {
            "pixel_values": pixels + torch.from_numpy(noise),
            "input_ids": padded["input_ids"],
            "facts": {
                "concepts": torch.from_numpy(drawings // len(STYLES)),
                "styles": torch.from_numpy(drawings % len(STYLES)),
                "colours": torch.tensor(colours),
            },
        }

    def count(self, batch: dict[str, Any]) -> int:
        """Return the number of pictures."""
        return len(batch["input_ids"])

    def _encode(self, concept: int, style: str, colour: str, language: str) -> list[int]:
        return self.tokenizer(self.emoji.caption(concept, style, colour, language))["input_ids"]


class Prototypes(torch.nn.Module):
    """A CLIP in training, with one learned embedding for each concept, style and background.

    CLIP's own loss tells a caption from the others in its batch. A small batch rarely holds two fruits on the same
    green, so little would be learned about what tells fruits apart. Here pictures and captions also have to find their
    concept's embedding among those of all concepts, and so for style and background (after Movshovitz-Attias et al.
    2017, "No fuss distance metric learning using proxies"), and to come near each other. The prototypes are thrown
    away after training.
    """

    def __init__(self, clip: CLIPModel, emoji: EmojiSet) -> None:
        """Take the CLIP, and the emoji for the number of concepts."""
        super().__init__()
        self.clip = clip
        self.prototypes = torch.nn.ParameterDict(
            {
                fact: torch.nn.Parameter(torch.randn(count, clip.config.projection_dim))
                for fact, count in (("concepts", len(emoji.names)), ("styles", len(STYLES)), ("colours", len(COLOURS)))
            }
        )
        held_out = [[colour in held_out_colours(name) for name in emoji.names] for colour in COLOURS]
        # By colour: concepts never shown on it. As wrong answers they would be learned to be wrong.
        self.register_buffer("left_out", torch.tensor(held_out), persistent=False)

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, facts: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the loss of a batch of ``CaptionedPictures``."""
        outputs = self.clip(pixel_values=pixel_values, input_ids=input_ids, return_loss=True)
        scale = self.clip.logit_scale.exp()
        loss = outputs.loss
        for embeddings in (outputs.image_embeds, outputs.text_embeds):
            for fact, prototypes in self.prototypes.items():
                logits = scale * embeddings @ torch.nn.functional.normalize(prototypes, dim=-1).T
                if fact == "concepts":
                    logits = logits.masked_fill(self.left_out[facts["colours"]], -torch.inf)
                loss = loss + torch.nn.functional.cross_entropy(logits, facts[fact]) / 2
        distance = 1 - (outputs.image_embeds * outputs.text_embeds).sum(dim=1).mean()
        return loss + distance


def build_clip(target: Path = CLIP_FOLDER, settings: FitSettings = SETTINGS) -> FitResult:
    """Train the CLIP and write its files into ``target``.

    Checkpoints and logs lie in the store under ``pretrain/clip``: stopped at any moment, the same call goes on and ends
    with the same weights. A GPU is used where there is one.

    Raises:
        ReaderError: the emoji are missing or altered, or the checkpoints are those of another run.
    """
    emoji = load_emoji()
    tokenizer = caption_tokenizer(emoji)
    model = build_model(tokenizer, settings.seed)
    training = CaptionedPictures(emoji, tokenizer, BATCH_SIZE, settings.seed)
    logger.info("%d parameters, vocabulary %d, %d batches", model.num_parameters(), len(tokenizer), len(training))
    folder = store_folder() / "pretrain" / "clip"
    result = fit(Prototypes(model, emoji), training, lambda trained, batch: trained(**batch), settings, folder=folder)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    export(target, in_half_precision(model), tokenizer, processor)
    return result


def caption_tokenizer(emoji: EmojiSet) -> PreTrainedTokenizerFast:
    """Return the tokenizer of all captions, with the trigger words for LoRAs."""
    captions = [
        emoji.caption(concept, style, colour, language)
        for language in LANGUAGES
        for concept in range(len(emoji.names))
        for style in STYLES
        for colour in COLOURS[: len(COLOURS) if concept == 0 else 1]  # Their words are the same for all concepts.
    ]
    return build_tokenizer(captions, TRIGGER_WORDS)


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> CLIPModel:
    """Return the model with random weights."""
    set_seed(seed)
    shared = {"projection_dim": EMBEDDING_WIDTH}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": TEXT_WIDTH // HEAD_WIDTH,
        "max_position_embeddings": CAPTION_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": IMAGE_WIDTH,
        "intermediate_size": 4 * IMAGE_WIDTH,
        "num_hidden_layers": IMAGE_LAYERS,
        "num_attention_heads": IMAGE_WIDTH // HEAD_WIDTH,
        "image_size": 64,
        "patch_size": PATCH_SIZE,
    }
    return CLIPModel(
        CLIPConfig(text_config=text | shared, vision_config=vision | shared, projection_dim=EMBEDDING_WIDTH)
    )

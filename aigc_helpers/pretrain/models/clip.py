"""Builds ``data/clip``: a CLIP in miniature, trained on emoji and their captions in English and Chinese."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, set_seed
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from aigc_helpers.images import (
    CAPTION_TOKENS,
    COLOURS,
    LANGUAGES,
    STYLES,
    EmojiSet,
    alpha_composite,
    background,
    build_tokenizer,
    embed_captions,
    held_out_colours,
    load_emoji,
    nearest_colour,
    to_pixels,
    training_colours,
)
from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.models.export import export, in_half_precision
from aigc_helpers.store import store_folder
from aigc_helpers.text import pad_batch
from aigc_helpers.training import FitResult, FitSettings, fit

logger = logging.getLogger(__name__)

CLIP_FOLDER = DATA / "clip"
TEXT_WIDTH, TEXT_LAYERS = 128, 3
IMAGE_WIDTH, IMAGE_LAYERS, PATCH_SIZE = 160, 4, 16
EMBEDDING_WIDTH = 256
HEAD_WIDTH = 32
# Words for LoRA lessons to fill with a meaning: they have a token, and no caption has them.
TRIGGER_WORDS = ("sks", "sepia")

BATCH_SIZE = 192
SETTINGS = FitSettings(
    epochs=100,
    learning_rate=1.5e-3,
    schedule="cosine",
    warmup=0.03,
    weight_decay=0.05,
    checkpoint_every=100,
)  # Of both parts of the training.


class Variation(NamedTuple):
    """How far pictures may differ from those that are measured, so that what is learned holds for others, too.

    Attributes:
        moved: pixels, up or down, left or right.
        shade: of 255, for each of red, green and blue of the background.
        noise: standard deviation, of pixels from -1 to 1.
    """

    moved: int
    shade: int
    noise: float


FAR, NEAR = Variation(moved=2, shade=25, noise=0.1), Variation(moved=1, shade=60, noise=0.05)


class CaptionedPictures:
    """All drawings with captions, each once an epoch, on a random one of its concept's backgrounds in training.

    Half of the captions are Chinese.
    """

    unit_name = "pictures"

    def __init__(
        self, emoji: EmojiSet, tokenizer: PreTrainedTokenizerFast, variation: Variation, batch_size: int, seed: int
    ) -> None:
        """Take the emoji, the tokenizer of their captions, and how many pictures make a batch."""
        self.emoji, self.tokenizer, self.variation = emoji, tokenizer, variation
        self.batch_size, self.seed = batch_size, seed
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
            furthest = self.variation.moved
            by = generator.integers(-furthest, furthest + 1, size=2)
            moved = np.roll(self.emoji.drawings[concept, style], by, axis=(0, 1))
            pictures.append(alpha_composite(moved, self._shade(colour, generator).tolist()))
            token_ids.append(self._token_ids(concept, STYLES[style], colour, language))
            colours.append(COLOURS.index(colour))
        pixels = to_pixels(np.stack(pictures))
        noise = generator.standard_normal(pixels.shape, dtype=np.float32) * self.variation.noise
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

    def _shade(self, colour: str, generator: np.random.Generator) -> np.ndarray:
        furthest = self.variation.shade
        named = np.array(background(colour).rgb)
        shade = (named + generator.integers(-furthest, furthest + 1, size=3)).clip(0, 255)
        return shade if nearest_colour(shade) == colour else named

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

    never_shown: torch.Tensor

    def __init__(self, clip: CLIPModel, emoji: EmojiSet) -> None:
        """Take the CLIP, and the emoji for the number of concepts."""
        super().__init__()
        self.clip = clip
        self.prototypes = torch.nn.ParameterDict(
            {
                fact: torch.nn.Parameter(torch.randn(count, clip.visual_projection.out_features))
                for fact, count in (("concepts", len(emoji.names)), ("styles", len(STYLES)), ("colours", len(COLOURS)))
            }
        )
        self.register_buffer("never_shown", never_shown(emoji), persistent=False)

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
                    logits = logits.masked_fill(self.never_shown[facts["colours"]], -torch.inf)
                loss = loss + torch.nn.functional.cross_entropy(logits, facts[fact]) / 2
        distance = 1 - (outputs.image_embeds * outputs.text_embeds).sum(dim=1).mean()
        return loss + distance


class FinishedCaptions(torch.nn.Module):
    """A CLIP whose text half is finished: each picture has to find its caption among those of all drawings.

    With the text half at rest the embeddings of all captions are known once and for all, so that every picture can be
    compared with all of them and not with a batch's alone (after Zhai et al. 2022, "LiT", who lock the other half).
    """

    captions: torch.Tensor
    never_shown: torch.Tensor

    def __init__(self, clip: CLIPModel, emoji: EmojiSet, tokenizer: PreTrainedTokenizerFast) -> None:
        """Freeze the text half, and embed every caption of the emoji."""
        super().__init__()
        self.clip = clip
        for part in (clip.text_model, clip.text_projection):
            part.requires_grad_(False)
        embeddings = [
            embed_captions(clip, tokenizer, [emoji.caption(*drawing, colour, language) for drawing in emoji.drawn])
            for language in LANGUAGES
            for colour in COLOURS
        ]
        by_language = torch.stack(embeddings).unflatten(0, (len(LANGUAGES), len(COLOURS)))
        self.register_buffer("captions", by_language, persistent=False)
        self.register_buffer("never_shown", never_shown(emoji).repeat_interleave(len(STYLES), dim=1), persistent=False)

    def forward(self, pixel_values: torch.Tensor, facts: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of a batch of ``CaptionedPictures``."""
        pictures = self.clip.visual_projection(self.clip.vision_model(pixel_values).pooler_output)
        pictures = torch.nn.functional.normalize(pictures, dim=-1)
        drawings = facts["concepts"] * len(STYLES) + facts["styles"]
        losses = []
        for colour in facts["colours"].unique():
            chosen = facts["colours"] == colour
            for captions in self.captions[:, colour]:
                cosines = pictures[chosen] @ captions.T
                distances = 1 - cosines.gather(1, drawings[chosen, None]).squeeze(1)
                logits = (self.clip.logit_scale.exp() * cosines).masked_fill(self.never_shown[colour], -torch.inf)
                cross_entropy = torch.nn.functional.cross_entropy(logits, drawings[chosen], reduction="none")
                losses.append(cross_entropy + distances)
        return torch.cat(losses).mean()


def never_shown(emoji: EmojiSet) -> torch.Tensor:
    """Return which concepts are not shown on which background: colours × concepts, True where held out.

    As wrong answers on these they would be learned to be wrong.
    """
    return torch.tensor([[colour in held_out_colours(name) for name in emoji.names] for colour in COLOURS])


def build_clip(target: Path = CLIP_FOLDER, settings: FitSettings = SETTINGS) -> FitResult:
    """Train the CLIP and write its files into ``target``: first both halves, then the pictures with the text at rest.

    Checkpoints and logs lie in the store under ``pretrain/clip`` and ``pretrain/clip-pictures``: stopped at any moment,
    the same call goes on and ends with the same weights. A GPU is used where there is one.

    Raises:
        ReaderError: the emoji are missing or altered, or the checkpoints are those of another run.
    """
    emoji = load_emoji()
    tokenizer = caption_tokenizer(emoji)
    model = build_model(tokenizer, settings.seed)
    training = CaptionedPictures(emoji, tokenizer, FAR, BATCH_SIZE, settings.seed)
    logger.info("%d parameters, vocabulary %d, %d batches", model.num_parameters(), len(tokenizer), len(training))
    folder = store_folder() / "pretrain" / "clip"
    fit(Prototypes(model, emoji), training, lambda trained, batch: trained(**batch), settings, folder=folder)
    result = fit(
        FinishedCaptions(model, emoji, tokenizer),
        CaptionedPictures(emoji, tokenizer, NEAR, BATCH_SIZE, settings.seed),
        lambda trained, batch: trained(batch["pixel_values"], batch["facts"]),
        settings,
        folder=folder.with_name("clip-pictures"),
    )
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

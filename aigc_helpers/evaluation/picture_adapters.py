"""How well a LoRA for the Stable Diffusion in miniature draws what it was trained for, beside the base without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aigc_helpers.evaluation.drawings import References, judge
from aigc_helpers.evaluation.sd import GUIDANCE, STEPS
from aigc_helpers.images import (
    BASE_STYLES,
    COLOURS,
    HELD_OUT_CONCEPTS,
    TRIGGER_WORD,
    EmojiSet,
    Facts,
    caption,
    draw_many,
    load_clip,
    load_emoji,
    to_array,
    unseen_concepts,
)

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline


def evaluate_picture_adapter(
    pipeline: StableDiffusionPipeline, what: str, base_concepts: tuple[str, ...], pictures: int = 128, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Draw the same prompts with the same seeds without the LoRA and with it, and judge both.

    A look or style is asked for on concepts that the LoRA was not shown, on all ten backgrounds; for a new concept the
    prompts have its trigger word, in the base's styles. How the base draws the same concepts in a style of its own
    stands beside it: a LoRA should not do worse.

    Args:
        pipeline: with the LoRA on its UNet, in force.
        what: the LoRA was trained for: ``"sepia"``, ``"fluent"`` or a concept.
        base_concepts: those the base was trained on.
        pictures: how many are drawn of each kind.
        seed: of the choice of prompts, and of the pictures.

    Returns:
        ``"base"``, ``"tuned"`` and, for a look or style, ``"base in its own style"``; each as ``judge`` returns it.

    Example:
        >>> from peft import LoraConfig
        >>> from aigc_helpers.images import load_pipeline
        >>> pipeline = load_pipeline()
        >>> pipeline.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"]))
        >>> list(evaluate_picture_adapter(pipeline, "koala", ("tiger", "pizza"), pictures=1))
        ['tuned', 'base']
    """
    everything = load_emoji()
    clip = load_clip()[0]
    is_concept = what in HELD_OUT_CONCEPTS
    emoji = everything.only((*base_concepts, what) if is_concept else base_concepts)
    asked = everything.only((what,) if is_concept else unseen_concepts(what, base_concepts))
    facts = _choose(asked, BASE_STYLES if is_concept else (what,), emoji, pictures, seed)
    styles = BASE_STYLES if is_concept else (*BASE_STYLES, what)
    references = References(emoji, clip)

    def drawn(some: list[Facts]) -> dict[str, Any]:
        words = [TRIGGER_WORD if is_concept else emoji.english[one.concept] for one in some]
        prompts = [caption(word, one.style, one.colour) for word, one in zip(words, some, strict=True)]
        drawings = to_array(draw_many(pipeline, prompts, seed, STEPS, GUIDANCE))
        return judge(drawings, some, references, styles)

    figures = {"tuned": drawn(facts)}
    pipeline.unet.disable_adapters()
    figures["base"] = drawn(facts)
    if not is_concept:
        figures["base in its own style"] = drawn([one._replace(style=BASE_STYLES[0]) for one in facts])
    pipeline.unet.enable_adapters()
    return figures


def _choose(asked: EmojiSet, styles: tuple[str, ...], emoji: EmojiSet, count: int, seed: int) -> list[Facts]:
    """Return ``count`` facts about the concepts of ``asked``, numbered as in ``emoji``; few come repeatedly."""
    possible = asked.facts(styles, lambda _: COLOURS)
    generator, few = np.random.default_rng(seed), count > len(possible)
    numbers = generator.permutation(count) % len(possible) if few else generator.choice(len(possible), count, False)
    chosen = [possible[number] for number in numbers]
    return [one._replace(concept=emoji.number_of[asked.names[one.concept]]) for one in chosen]

"""FID and KID against the number of pictures: the curve of chapter 12, for the Stable Diffusion in miniature."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from aigc_helpers.evaluation import GUIDANCE
from aigc_helpers.images import (
    EmojiSet,
    Facts,
    draw_many,
    embed_pictures,
    load_clip,
    load_emoji,
    load_pipeline,
    read_shown_in_training,
    to_array,
    training_colours,
)
from aigc_helpers.metrics import fid, kid
from aigc_helpers.paths import DATA
from aigc_helpers.profile import choose_profile
from aigc_helpers.training import Row, run_sweep

CURVE_FILE = DATA / "results" / "fid_curve.jsonl"

# Drawing is what takes the time; pictures of the training set cost next to nothing.
COUNTS = {"real and real": (16, 32, 64, 128, 256, 512, 1024), "real and drawn": (16, 32, 64, 128, 256)}
REPEATS = 10
STEPS = 10
SEED = 0


def measure(sets: str, pictures: int) -> Row:
    """Compare ``pictures`` real pictures with as many others, ten times with other choices.

    Args:
        sets: ``"real and real"``, both what the model was shown, none twice; or ``"real and drawn"``, the second drawn
            by the model from captions of such pictures.
        pictures: in each set.

    Returns:
        ``fid`` and ``kid``: lists of ten numbers, on embeddings of tiny-CLIP scaled to a mean square of 1.
    """
    real, drawn = _features()
    figures: dict[str, list[float]] = {"fid": [], "kid": []}
    for repeat in range(REPEATS):
        generator = np.random.default_rng([SEED, repeat])
        order = generator.permutation(len(real))
        first, second = real[order[:pictures]], real[order[pictures : 2 * pictures]]
        if sets == "real and drawn":
            second = drawn[generator.permutation(len(drawn))[:pictures]]
        figures["fid"].append(round(fid(first, second), 4))
        figures["kid"].append(round(kid(first, second), 6))
    return figures


def build_fid_curve() -> str:
    """Run what data/results lacks of the curve; returns a closing line."""
    choose_profile("embedded")
    jobs = [{"sets": sets, "pictures": count} for sets, counts in COUNTS.items() for count in counts]
    rows = run_sweep(CURVE_FILE, jobs, measure)
    return f"{CURVE_FILE}: {len(rows)} points"


@lru_cache(maxsize=1)
def _features() -> tuple[np.ndarray, np.ndarray]:
    """Return those of as many training pictures, and of as many drawn ones, as the largest sets need."""
    shown = read_shown_in_training()
    emoji = load_emoji().only(shown.concepts)
    possible = emoji.facts(shown.styles, training_colours)
    order = np.random.default_rng(SEED).permutation(len(possible))
    facts = [possible[number] for number in order]
    pictures = _draw(emoji, facts[-max(COUNTS["real and drawn"]) :])
    clip = load_clip()[0]
    real = embed_pictures(clip, emoji.pictures(facts[: 2 * max(COUNTS["real and real"])])).numpy()
    drawn = embed_pictures(clip, pictures).numpy()
    return real * real.shape[1] ** 0.5, drawn * drawn.shape[1] ** 0.5


def _draw(emoji: EmojiSet, facts: list[Facts]) -> np.ndarray:
    prompts = [emoji.caption(*fact, "en") for fact in facts]
    return to_array(draw_many(load_pipeline(), prompts, SEED, STEPS, GUIDANCE))

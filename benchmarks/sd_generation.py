"""Pictures from sd: the book's call beside the stock pipeline's, and how few steps are enough, by scheduler.

Run with:  python benchmarks/sd_generation.py

First the same four prompts, seeds and steps through both calls, in alternation. Then 128 pairs of concept and
background never seen in training, drawn by each scheduler at each number of steps, and judged as ``aigc evaluate sd``
does.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import StableDiffusionPipeline

_ROUNDS = 12
_STEPS, _GUIDANCE = 20, 4.0
_STEPS_JUDGED = (3, 4, 6, 8, 10, 15, 20)
_PICTURES = 128
_POINTS = 0.02  # Of the best share, that fewer steps may cost.
_PROMPTS = [
    "tiger, noto style, blue background",
    "penguin, twemoji style, pink background",
    "老虎，noto 风格，蓝色背景",
    "pizza, noto style, green background",
]


def main() -> None:
    """Print both tables."""
    from aigc_helpers.images import load_pipeline
    from aigc_helpers.profile import choose_profile

    choose_profile("embedded")
    pipeline = load_pipeline()
    compare_calls(pipeline)
    compare_schedulers(pipeline)


def compare_calls(pipeline: StableDiffusionPipeline) -> None:
    """Time one picture at a time, and four at once, through both calls."""
    import numpy
    import torch

    from aigc_helpers.images import draw_many

    def ours(prompts: list[str]) -> list:
        return draw_many(pipeline, prompts, 0, _STEPS, _GUIDANCE)

    def stock(prompts: list[str]) -> list:
        generators = [torch.Generator().manual_seed(number) for number in range(len(prompts))]
        return pipeline(prompts, num_inference_steps=_STEPS, guidance_scale=_GUIDANCE, generator=generators).images

    for prompts in (_PROMPTS[:1], _PROMPTS):
        seconds: dict[str, list[float]] = {"ours": [], "stock": []}
        calls = [("ours", ours), ("stock", stock)]
        for _ in range(_ROUNDS + 1):  # The first one also pays for what is set up once.
            calls.reverse()  # So that neither is always the one after the other.
            for name, call in calls:
                seconds[name].append(_seconds(call, prompts))
        usual = {name: median(values[1:]) / len(prompts) for name, values in seconds.items()}
        pairs = zip(ours(prompts), stock(prompts), strict=True)
        equal = all(numpy.array_equal(numpy.asarray(one), numpy.asarray(other)) for one, other in pairs)
        print(
            f"{len(prompts)} at once: {usual['ours']:.3f} s a picture, stock {usual['stock']:.3f} s, "
            f"ratio {usual['stock'] / usual['ours']:.2f}, pictures equal: {equal}"
        )


def compare_schedulers(pipeline: StableDiffusionPipeline) -> None:
    """Print the share of right concepts, styles and backgrounds by scheduler and number of steps."""
    import numpy
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    from aigc_helpers.evaluation import References, judge
    from aigc_helpers.images import draw_many, held_out_colours, load_clip, load_emoji, read_shown_in_training, to_array

    shown = read_shown_in_training()
    emoji = load_emoji().only(shown.concepts)
    possible = emoji.facts(shown.styles, held_out_colours)
    facts = [possible[number] for number in numpy.random.default_rng(1).choice(len(possible), _PICTURES, replace=False)]
    prompts = [emoji.caption(*fact, "en") for fact in facts]
    references = References(emoji, load_clip()[0])
    noise_schedule = pipeline.scheduler.config
    for scheduler in (DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler):
        pipeline.scheduler = scheduler.from_config(noise_schedule)
        shares = {}
        for steps in _STEPS_JUDGED:
            pictures = draw_many(pipeline, prompts, 0, steps, _GUIDANCE)
            figures = judge(to_array(pictures), facts, references, shown.styles)
            means = [figures[name]["mean"] for name in ("concept by tiny-CLIP", "style by tiny-CLIP", "background")]
            shares[steps] = means[0]
            print(
                f"{scheduler.__name__:28} {steps:3} steps: concept {means[0]:.3f}, style {means[1]:.3f}, "
                f"background {means[2]:.3f}",
                flush=True,
            )
        enough = min(steps for steps, share in shares.items() if share >= max(shares.values()) - _POINTS)
        print(f"{scheduler.__name__}: {enough} steps are within {100 * _POINTS:.0f} points of its best")


def _seconds(call: Callable[[list[str]], object], prompts: list[str]) -> float:
    started = time.perf_counter()
    call(prompts)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

"""``generate()``: pictures or poems from the models that ship in ``data/``, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from aigc_helpers.arguments import check_seed
from aigc_helpers.errors import UnknownNameError, WrongUsageError

if TYPE_CHECKING:
    from PIL.Image import Image

MODELS = ("sd", "poet")


@overload
def generate(
    prompt: str,
    model: Literal["sd"] = "sd",
    *,
    count: int = 1,
    seed: int = 0,
    lora: str | Path | None = None,
    scale: float = 1.0,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
) -> list[Image]: ...


@overload
def generate(
    prompt: str,
    model: Literal["poet"],
    *,
    count: int = 1,
    seed: int = 0,
    lora: str | Path | None = None,
    scale: float = 1.0,
) -> list[str]: ...


@overload
def generate(
    prompt: str,
    model: str,
    *,
    count: int = 1,
    seed: int = 0,
    lora: str | Path | None = None,
    scale: float = 1.0,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
) -> list[Image] | list[str]: ...


def generate(
    prompt: str,
    model: str = "sd",
    *,
    count: int = 1,
    seed: int = 0,
    lora: str | Path | None = None,
    scale: float = 1.0,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
) -> list[Image] | list[str]:
    """Draw pictures, or write poems.

    Args:
        prompt: what to draw, or how a poem begins.
        model: ``"sd"`` for pictures, ``"poet"`` for poems.
        count: how many.
        seed: the same seed gives the same result.
        lora: a LoRA for the model: its file or folder.
        scale: how much of the LoRA: 0 none, 1 as trained.
        steps: of denoising, 1 to 999; by default 20. For pictures only, as are the two below.
        guidance: how strongly the prompt steers; by default 4.0.
        negative_prompt: what to steer away from; by default nothing.

    Raises:
        UnknownNameError: no model of that name draws or writes.
        WrongUsageError: settings for pictures were given to the poet, a scale without a LoRA, or a seed that is none.
        ReaderError: the model is missing or altered, the LoRA is not for it, or the prompt holds what it cannot read.

    Example:
        >>> len(generate("春", "poet", count=2))
        2
    """
    if model not in MODELS:
        raise UnknownNameError("model", model, MODELS)
    # What is left out takes the default of images.draw, where the reasons for it stand.
    chosen = {"steps": steps, "guidance": guidance, "negative_prompt": negative_prompt}
    picture_settings: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if model == "poet" and picture_settings:
        raise WrongUsageError(
            f"{', '.join(picture_settings)} can only be used for pictures (model sd). The poet takes a prompt, a "
            "count, a seed, and a LoRA with its scale."
        )
    if scale != 1 and lora is None:
        raise WrongUsageError("a scale says how much of a LoRA to add: name the LoRA, or leave the scale out.")
    check_seed(seed)
    if model == "sd":
        from aigc_helpers.images import draw

        return draw(prompt, count=count, seed=seed, lora=lora, scale=scale, **picture_settings)
    from aigc_helpers.text import write_poems

    return write_poems(prompt, count, seed, lora, scale)

"""``check_target_modules()``: which layers each target of a LoraConfig matches, before any training.

PEFT raises if no target matches; with one of three misspelt it trains the other two, and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from peft import LoraConfig

from aigc_helpers.compat import is_target
from aigc_helpers.errors import ReaderError, nearest_first
from aigc_helpers.lora.models import layers_for_lora


def check_target_modules(model: torch.nn.Module, targets: Iterable[str]) -> dict[str, list[str]]:
    """Return the layers that each target matches, as PEFT matches them: the whole name or its end.

    Args:
        model: that the LoRA is for.
        targets: as in ``LoraConfig(target_modules=[...])``.

    Raises:
        ReaderError: a target matches nothing, or only layers that LoRA has no form for.
    """
    if isinstance(targets, str):
        raise ReaderError(f"targets must be a list of names, and {targets!r} is one text. Write [{targets!r}].")
    names = [name for name, _ in model.named_modules() if name]
    candidates = layers_for_lora(model)
    matches = {}
    for target in targets:
        config = LoraConfig(target_modules=[target])
        matches[target] = [name for name in candidates if is_target(config, name)]
        if matches[target]:
            continue
        others = [name for name in names if is_target(config, name)]
        if others:
            kind = type(model.get_submodule(others[0])).__name__
            inner = sorted(
                {name.removeprefix(f"{others[0]}.") for name in candidates if name.startswith(f"{others[0]}.")}
            )
            raise ReaderError(
                f"target {target!r} matches {others[0]}, which is a {kind}. LoRA goes on the layers in it: "
                f"{', '.join(inner) or 'there are none'}."
            )
        ends = dict.fromkeys(_end(name) for name in candidates)
        raise ReaderError(
            f"target {target!r} matches no layer of this {type(model).__name__}. The likest that there are: "
            f"{', '.join(nearest_first(target, ends)[:5])}."
        )
    return matches


def _end(name: str) -> str:
    """Return the last word of a layer's name; with the word before it if that word is a number."""
    words = name.split(".")
    return ".".join(words[-2:]) if words[-1].isdecimal() and len(words) > 1 else words[-1]

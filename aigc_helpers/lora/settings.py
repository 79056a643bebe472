"""What adapter_config.json and diffusers' ``lora_adapter_metadata`` say about the strength of each layer.

The alphas of single layers stand there under regular expressions. One from a file could run for ever, so they are
taken by the letter, as PEFT and diffusers write them; one that cannot be is refused, for the strength would be wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from aigc_helpers.errors import ReaderError
from aigc_helpers.weights.safetensors_header import quoted

ADAPTER_METADATA = "lora_adapter_metadata"  # diffusers' key in a file's header.

# Settings of PEFT's LoraConfig that change what is computed, and that only PEFT itself can follow.
_ONLY_PEFT = (
    *("layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config"),
    *("target_parameters", "trainable_token_indices", "lora_bias", "monteclora_config", "velora_config"),
)
_LITERAL = re.compile(r"\^?(?:[\w.-]|\\\.)+\$?")


class Layer(Protocol):
    """A layer of an adapter."""

    @property
    def path(self) -> str:
        """The layer's name."""

    @property
    def rank(self) -> int:
        """Rows of its first matrix."""

    @property
    def alpha(self) -> float:
        """Its strength is alpha / rank."""


def check_settings(settings: Mapping[str, Any], source: Path) -> None:
    """Refuse settings under which the adapter is no plain LoRA.

    Raises:
        ReaderError: another method, or an extension of LoRA that only PEFT knows.
    """
    method = settings.get("peft_type", "LORA")
    if method != "LORA":
        raise ReaderError(
            f"{source} is an adapter of another kind ({quoted(method)}), not a LoRA. Load it with "
            "peft.PeftModel.from_pretrained."
        )
    used = [name for name in _ONLY_PEFT if settings.get(name)]
    if used or settings.get("bias") not in (None, "none"):
        names = ", ".join(used) or f"bias={quoted(settings.get('bias'))}"
        raise ReaderError(
            f"{source} uses an extension that only PEFT knows ({names}). Load it with peft.PeftModel.from_pretrained."
        )


def alpha_of(settings: Mapping[str, Any], path: str, rank: int, source: Path) -> float | None:
    """Return the alpha that the settings give to a layer, for a scale of alpha / rank; None if they give none.

    A rank-stabilised LoRA's (alpha / √rank, Kalajdzievski 2023) is turned into the plain one of equal strength.

    Raises:
        ReaderError: an alpha is no number, or stands under a regular expression.
    """
    alpha = settings.get("lora_alpha")
    patterns = settings.get("alpha_pattern")
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if not _LITERAL.fullmatch(pattern):
            raise ReaderError(
                f"{source} gives an alpha under the regular expression {quoted(pattern)}, and those of a file are not "
                "run: one can take for ever. Write the names of the layers in its place."
            )
        if _matches(pattern, path):
            alpha = value
            break
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not abs(alpha) < 1e300:
        raise ReaderError(f"{source} says that alpha is {quoted(alpha)}, which is no number. Mend it or train again.")
    return float(alpha) * rank**0.5 if settings.get("use_rslora") else float(alpha)


def settings_for(layers: Sequence[Layer], *, use_dora: bool) -> dict[str, Any]:
    """Return the arguments of peft.LoraConfig under which it makes just these layers, each of its rank and alpha."""
    rank = Counter(layer.rank for layer in layers).most_common(1)[0][0]
    alpha = Counter(layer.alpha for layer in layers).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": _whole(alpha),
        # ^ as in diffusers' own: otherwise proj_out would also be that of every block.
        "rank_pattern": {f"^{layer.path}": layer.rank for layer in layers if layer.rank != rank},
        "alpha_pattern": {f"^{layer.path}": _whole(layer.alpha) for layer in layers if layer.alpha != alpha},
        "target_modules": sorted(layer.path for layer in layers),
        "use_dora": use_dora,
    }


def without_empty(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for adapter_config.json without those that are null, where null is what PEFT assumes anyway.

    Every release of PEFT adds such fields, and an older one warns at length of a field that it does not know.
    """
    from peft import LoraConfig

    assumed = {field.name: field.default for field in fields(LoraConfig)}
    return {name: value for name, value in settings.items() if value is not None or assumed.get(name) is not None}


def _matches(pattern: str, path: str) -> bool:
    name = pattern.removesuffix("$").replace("\\.", ".")
    return path == name[1:] if name.startswith("^") else f".{path}".endswith(f".{name}")


def _whole(alpha: float) -> float:
    return int(alpha) if alpha == int(alpha) else alpha

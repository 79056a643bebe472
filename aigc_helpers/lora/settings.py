"""Settings of a LoRA: those that cannot be followed are refused by name, and those that say just these layers made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import quoted
from aigc_helpers.inspection import initialisation_fault

# Settings of PEFT's LoraConfig that change what is computed, and that only PEFT itself can follow.
_ONLY_PEFT = (
    *("layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config"),
    *("target_parameters", "lora_bias", "monteclora_config", "velora_config"),
)
BIASES = ("none", "all", "lora_only")


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
        ReaderError: another method, an extension of LoRA that only PEFT knows, or a beginning that changed the base.
    """
    method = settings.get("peft_type", "LORA")
    if method != "LORA":
        raise ReaderError(
            f"{source} is an adapter of another kind ({quoted(method)}), not a LoRA. Load it with "
            "peft.PeftModel.from_pretrained."
        )
    used = [name for name in _ONLY_PEFT if settings.get(name)]
    if settings.get("ensure_weight_tying") and settings.get("modules_to_save"):
        used.append("ensure_weight_tying")  # What is kept for one module then holds for another, which has no tensor.
    if used:
        raise ReaderError(
            f"{source} uses an extension that only PEFT knows ({', '.join(used)}). Load it with "
            "peft.PeftModel.from_pretrained."
        )
    if settings.get("bias") not in (None, *BIASES):
        raise ReaderError(
            f"{source} says that bias is {quoted(settings.get('bias'))}; PEFT knows {', '.join(BIASES)}. Mend it."
        )
    fault = initialisation_fault(settings, source)
    if fault:
        raise ReaderError(fault)


def settings_for(layers: Sequence[Layer], *, use_dora: bool) -> dict[str, Any]:
    """Return the arguments of peft.LoraConfig under which it makes just these layers, each of its rank and alpha.

    A layer with a rank or an alpha of its own is named as a regular expression that matches it alone: from the
    beginning, for otherwise ``proj_out`` would be that of every block, and with each dot escaped.
    """
    rank = Counter(layer.rank for layer in layers).most_common(1)[0][0]
    alpha = Counter(layer.alpha for layer in layers).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": _whole(alpha),
        "rank_pattern": {f"^{re.escape(layer.path)}": layer.rank for layer in layers if layer.rank != rank},
        "alpha_pattern": {f"^{re.escape(layer.path)}": _whole(layer.alpha) for layer in layers if layer.alpha != alpha},
        "target_modules": sorted(layer.path for layer in layers),
        "use_dora": use_dora,
    }


def drop_null_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for adapter_config.json without those that are null, where null is what PEFT assumes anyway.

    Every release of PEFT adds such fields, and an older one warns at length of a field that it does not know.

    Example:
        >>> drop_null_settings({"r": 8, "target_modules": ["query"], "revision": None})
        {'r': 8, 'target_modules': ['query']}
    """
    from peft import LoraConfig

    assumed = {field.name: field.default for field in fields(LoraConfig)}
    return {name: value for name, value in settings.items() if value is not None or assumed.get(name) is not None}


def _whole(alpha: float) -> float:
    return int(alpha) if alpha == int(alpha) else alpha

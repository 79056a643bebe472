"""What exercises on LoRA configurations have in common."""

from __future__ import annotations

from typing import Any

from aigc_helpers.notebook.exercises import Text


def target_modules(config: Any) -> set[str]:  # noqa: ANN401 - whatever the reader wrote
    """Return the names that a reader's configuration targets."""
    return set(config.target_modules or ())


def is_a_lora_config(config: Any) -> bool | Text:  # noqa: ANN401
    """Tell whether the reader's ``my_config`` is a LoraConfig; if not, say so."""
    from peft import LoraConfig

    if isinstance(config, LoraConfig):
        return True
    return Text("my_config must be a LoraConfig(...) of peft.", "my_config 应该是 peft 的 LoraConfig(...)。")

"""What exercises on LoRA configurations have in common."""

from __future__ import annotations

from typing import Any

from aigc_helpers.notebook.exercises import Text


def target_modules(config: Any) -> set[str]:  # noqa: ANN401 - whatever the reader wrote
    """Return the names that a reader's configuration targets.

    Example:
        >>> from peft import LoraConfig
        >>> sorted(target_modules(LoraConfig(target_modules=["value", "query"])))
        ['query', 'value']
    """
    return set(config.target_modules or ())


def is_a_lora_config(config: Any) -> bool | Text:  # noqa: ANN401
    """Tell whether the reader's ``my_config`` is a LoraConfig; if not, say so.

    Example:
        >>> from peft import LoraConfig
        >>> is_a_lora_config(LoraConfig(r=8))
        True
        >>> is_a_lora_config({"r": 8}).en
        'my_config must be a LoraConfig(...) of peft.'
    """
    from peft import LoraConfig

    if isinstance(config, LoraConfig):
        return True
    return Text("my_config must be a LoraConfig(...) of peft.", "my_config 应该是 peft 的 LoraConfig(...)。")

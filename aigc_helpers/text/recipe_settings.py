"""What ``aigc train`` trains text models with, in one table; the command reads it for its help, and needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextAdapterSettings:
    """How a LoRA for a text model is trained.

    Attributes:
        layers: that get one, by the ends of their names.
        rank: of every layer; alpha is twice the rank.
        epochs: passes over the texts.
        learning_rates: the peak of the schedule, by profile.
        batch_size: texts per step.
    """

    layers: tuple[str, ...]
    rank: int
    epochs: float
    learning_rates: dict[str, float]
    batch_size: int


# As measured in chapter 05.
REVIEWS = TextAdapterSettings(
    layers=("query", "value"), rank=8, epochs=2, learning_rates={"embedded": 2e-3, "full": 5e-4}, batch_size=32
)
# GPT-2's c_attn makes query, key and value at once.
TUNE = TextAdapterSettings(
    layers=("c_attn",), rank=8, epochs=8, learning_rates={"embedded": 5e-3, "full": 5e-3}, batch_size=16
)

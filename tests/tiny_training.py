"""A model and data small enough that a whole run takes a second, with dropout so that randomness matters."""

from __future__ import annotations

import random
from pathlib import Path

import numpy
import torch

from aigc_helpers.training import FitResult, FitSettings, fit

SETTINGS = FitSettings(epochs=3, learning_rate=5e-2, seed=7, evaluate_every=9, checkpoint_every=4)


class TinyBatches:
    """Ten batches of a noisy linear rule."""

    unit_name = "pictures"

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(80, 8, generator=generator)
        self.targets = self.inputs.sum(dim=1, keepdim=True)

    def __len__(self) -> int:
        return 10

    def batch(self, epoch: int, position: int) -> dict[str, torch.Tensor]:
        rows = numpy.random.default_rng([epoch]).permutation(80)[position * 8 : position * 8 + 8]
        return {"inputs": self.inputs[rows], "targets": self.targets[rows]}

    def count(self, batch: dict[str, torch.Tensor]) -> int:
        return len(batch["inputs"])


def tiny_model() -> torch.nn.Module:
    """Return a network with a frozen layer, dropout, and a buffer that training changes (batch norm)."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 16),
        torch.nn.BatchNorm1d(16),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(16, 1),
    )
    model[0].requires_grad_(False)
    return model


def tiny_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean squared error with noise from all three generators, as diffusion training draws its noise."""
    noise = torch.randn(()) * 0.01 + random.random() * 0.01 + numpy.random.random() * 0.01
    return ((model(batch["inputs"]) - batch["targets"]) ** 2).mean() + noise


def train_tiny(folder: Path | None, settings: FitSettings = SETTINGS) -> tuple[torch.nn.Module, FitResult]:
    """Train the tiny model; the evaluation draws random numbers, which must not change the run."""
    model = tiny_model()
    result = fit(
        model, TinyBatches(), tiny_loss, settings, folder=folder, evaluate=lambda: {"drawn": torch.rand(()).item()}
    )
    return model, result


class PlainModel(torch.nn.Module):
    """Without dropout or running means, so that the gradient is the same however a batch is cut into parts.

    Its last parameter is one that the loss does not use.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        self.unused = torch.nn.Parameter(torch.ones(3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)


def squared_error(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean squared error, without noise."""
    return ((model(batch["inputs"]) - batch["targets"]) ** 2).mean()

"""Writes trained models into ``data/``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from aigc_helpers.files import replacing_files

Model = TypeVar("Model", bound=torch.nn.Module)


class Savable(Protocol):
    """Whatever transformers or diffusers can save: a model, a tokenizer, a whole pipeline."""

    def save_pretrained(self, folder: str | Path, /) -> object:
        """Write its files."""


def in_half_precision(model: Model) -> Model:
    """Return a copy on the CPU with float16 weights; ``model`` stays as it is."""
    return copy.deepcopy(model).cpu().half()


def export(target: Path, *parts: Savable) -> None:
    """Save all parts into one folder; each file appears whole or not at all."""
    with replacing_files(target) as temporary:
        for part in parts:
            part.save_pretrained(temporary)

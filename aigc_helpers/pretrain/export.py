"""Writes trained models into ``data/``."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

import torch

from aigc_helpers.files import replacing

Model = TypeVar("Model", bound=torch.nn.Module)


class Savable(Protocol):
    """Whatever transformers or diffusers can save: a model, a tokenizer, a whole pipeline."""

    def save_pretrained(self, folder: str | Path) -> object:
        """Write its files."""


def in_half_precision(model: Model) -> Model:
    """Return a copy on the CPU with float16 weights; ``model`` stays as it is."""
    return copy.deepcopy(model).cpu().half()


def export(target: Path, *parts: Savable) -> list[Path]:
    """Save all parts into one folder and return the files written; each appears whole or not at all."""
    with TemporaryDirectory() as temporary:
        for part in parts:
            part.save_pretrained(temporary)
        written = []
        for path in sorted(path for path in Path(temporary).rglob("*") if path.is_file()):
            written.append(target / path.relative_to(temporary))
            with replacing(written[-1]) as unfinished:
                unfinished.write_bytes(path.read_bytes())
        return written

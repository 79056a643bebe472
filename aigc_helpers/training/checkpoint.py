"""Checkpoints of a training run, as safetensors: whole or not there, and nothing in them can run code.

One file holds the trainable parameters and the buffers, the optimizer's moments, the random generators' states and,
as JSON in the header, the counters and settings. Frozen weights are left out: they are the base model's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from aigc_helpers.bounded_json import parse_json
from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.files import replacing

_PATTERN = "checkpoint-*.safetensors"
_KEPT = 2  # The newest, and one older for the day the newest is damaged.


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        step: optimizer steps done.
        settings: the run's settings, compared on resuming.
        tensors: ``model.<name>``, ``optimizer.<index>.<key>`` and ``random.<process>.<generator>``.
        counters: JSON values: optimizer groups, scheduler, gradient scaler, units seen, seconds spent.
    """

    step: int
    settings: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    counters: dict[str, Any]

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors under ``name.``, without that prefix."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into ``folder`` and delete all but the two newest.

    Raises:
        ReaderError: the disk is full or the folder is not writable; the older checkpoints stay.
    """
    target = folder / f"checkpoint-{checkpoint.step:08d}.safetensors"
    header = {"step": checkpoint.step, "settings": checkpoint.settings, "counters": checkpoint.counters}
    # A clone each, because safetensors refuses tensors that share storage, such as tied weights.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()}
    with replacing(target) as temporary:
        save_file(tensors, temporary, metadata={"checkpoint": json.dumps(header)})
    for outdated in sorted(folder.glob(_PATTERN))[:-_KEPT]:
        outdated.unlink()
    return target


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint in ``folder``, or None when there is none.

    Raises:
        ReaderError: the newest file is damaged. It is not passed over silently: losing steps is the reader's choice.
    """
    paths = sorted(folder.glob(_PATTERN))
    if not paths:
        return None
    with damage_explained(folder):
        with safe_open(paths[-1], framework="pt") as opened:
            header = parse_json(opened.metadata()["checkpoint"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        checkpoint = Checkpoint(header["step"], header["settings"], tensors, header["counters"])
        _check_forms(checkpoint)
    return checkpoint


@contextmanager
def damage_explained(folder: Path) -> Iterator[None]:
    """Turn whatever the newest checkpoint in ``folder`` makes the libraries raise into a sentence that names it.

    Raises:
        ReaderError: it is damaged.
    """
    try:
        yield
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        paths = sorted(folder.glob(_PATTERN))
        older = f"continue from {paths[-2].name}" if len(paths) > 1 else "start over"
        raise ReaderError(
            f"the checkpoint {paths[-1]} is damaged ({first_line(error)}). It was probably cut off while being copied. "
            f"Delete it to {older}, or copy it again."
        ) from error


def _check_forms(checkpoint: Checkpoint) -> None:
    counters = checkpoint.counters
    counts = (checkpoint.step, counters["units"])
    seconds = (counters["training_seconds"], counters["evaluation_seconds"])
    sound = isinstance(checkpoint.settings, dict) and all(type(count) is int and count >= 0 for count in counts)
    if not sound or not all(type(each) in (int, float) and math.isfinite(each) for each in seconds):
        raise ValueError("its counters are none")


def check_form(saved: object, own: object) -> None:
    """Refuse values that are not built as ``own`` is, whatever the numbers are.

    What only one of them has is left to torch: its releases add settings.

    Raises:
        ValueError: a list is longer or shorter, or a value of another type.
    """
    if isinstance(saved, dict) and isinstance(own, dict):
        for key in saved.keys() & own.keys():
            check_form(saved[key], own[key])
    elif isinstance(saved, list) and isinstance(own, (list, tuple)) and len(saved) == len(own):
        for saved_one, own_one in zip(saved, own, strict=True):
            check_form(saved_one, own_one)
    elif type(saved) is not type(own):
        raise ValueError("its optimizer or its schedule is another one's")


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Split an optimizer's state into named tensors and its JSON-able parameter groups."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": value if torch.is_tensor(value) else torch.tensor(value, dtype=torch.float64)
        for index, entries in state["state"].items()
        for key, value in entries.items()
    }
    return tensors, state["param_groups"]


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], groups: list[dict[str, Any]]
) -> None:
    """Load into ``optimizer`` what ``pack_optimizer`` returned.

    Raises:
        ValueError: it was another optimizer's.
    """
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    # JSON has no tuples; torch keeps betas as one.
    restored = [{key: tuple(value) if key == "betas" else value for key, value in group.items()} for group in groups]
    check_form(groups, pack_optimizer(optimizer)[1])
    optimizer.load_state_dict({"state": state, "param_groups": restored})

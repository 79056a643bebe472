"""What was captured comes back; a device that was not there then, or is not there now, does not end the run."""

from __future__ import annotations

import random
from pathlib import Path

import numpy
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_training import train_tiny

from aigc_helpers.training.random_state import capture_random_state, restore_random_state


def draw_from_each() -> list[float]:
    return [random.random(), random.gauss(0, 1), numpy.random.random(), numpy.random.normal(), torch.rand(()).item()]


def test_every_generator_repeats_itself() -> None:
    draw_from_each()  # Each normal draw leaves a second one in store, which is part of the state.
    state = capture_random_state()
    drawn = draw_from_each()
    restore_random_state(state)
    assert draw_from_each() == drawn


def test_a_state_of_the_cpu_is_restored_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    state = capture_random_state()
    state = {name: tensor for name, tensor in state.items() if not name.startswith("cuda.")}
    drawn = draw_from_each()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: pytest.fail("there is nothing to set it to"))
    restore_random_state(state)
    assert draw_from_each() == drawn


def test_a_checkpoint_of_a_gpu_goes_on_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, _ = train_tiny(None)
    train_tiny(tmp_path)
    older, newest = sorted(tmp_path.glob("checkpoint-*"))
    newest.unlink()
    with safe_open(older, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        header = opened.metadata()
    captured = next(name for name in tensors if name.endswith(".torch"))
    save_file(tensors | {captured.replace(".torch", ".cuda.0"): torch.zeros(16, dtype=torch.uint8)}, older, header)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    resumed, _ = train_tiny(tmp_path)
    assert torch.equal(resumed[3].weight, undisturbed[3].weight)

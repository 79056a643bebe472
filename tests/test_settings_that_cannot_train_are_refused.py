"""FitSettings with a number out of its range is refused when it is made, not after an hour, and never followed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from tiny_training import SETTINGS, TinyBatches, tiny_loss, tiny_model

from aigc_helpers import FitSettings, fit
from aigc_helpers.errors import ReaderError, UnknownNameError

NONSENSE = {
    "epochs": [0, -1, math.nan, math.inf, 10_000_000],
    "learning_rate": [0, -1, math.nan, math.inf],
    "warmup": [-0.1, 1.5, math.nan],
    "weight_decay": [-0.1, math.nan, math.inf],
    "gradient_clip": [0, -1.0, math.nan],
    "seed": [-1, 2**32, 0.5],
    "evaluate_every": [0, -1, 2.5],
    "checkpoint_every": [0, -1, None],
    "gradient_accumulation_steps": [0, -1, 1.5],
}
SENSE = {
    "epochs": [1e-9, 0.5, 1_000_000],
    "warmup": [0, 1],
    "weight_decay": [0],
    "gradient_clip": [math.inf],
    "seed": [0, 2**32 - 1],
    "evaluate_every": [None, 1, numpy.int64(3)],
    "checkpoint_every": [1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NONSENSE.items() for value in values])
def test_nonsense_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ReaderError, match=rf"{name} (is|of) {value}\b.* must be .*\.$"):
        replace(SETTINGS, **{name: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SENSE.items() for value in values])
def test_the_ends_of_each_range_are_taken(name: str, value: float) -> None:
    assert getattr(replace(SETTINGS, **{name: value}), name) == value


def test_a_schedule_is_one_that_is_described() -> None:
    with pytest.raises(UnknownNameError, match="no schedule 'cosin'. Valid: cosine"):
        FitSettings(epochs=1, learning_rate=0.1, schedule="cosin")
    for schedule in ("linear", "cosine", "constant_with_warmup"):
        assert fit(tiny_model(), TinyBatches(), tiny_loss, replace(SETTINGS, epochs=1, schedule=schedule)).steps == 10


def test_a_folder_that_is_a_file_is_refused_before_the_model_is_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    model = tiny_model().half()
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(ReaderError, match="file is a file where a folder is needed"):
            fit(model, TinyBatches(), tiny_loss, SETTINGS, folder=folder)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"
    assert {str(one.dtype) for one in model.parameters()} == {"torch.float16"}

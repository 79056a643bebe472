"""A trial tells an adapter that works from one that does nothing, whatever the loader says, and leaves no trace.

Chapter 10 shows with it which loaders fail in silence; a trial that measured wrongly would accuse the wrong one.
"""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from aigc_helpers.evaluation import AdapterTrial
from aigc_helpers.images import load_pipeline
from aigc_helpers.lora import load_adapter
from aigc_helpers.paths import DATA

KOALA = DATA / "loras" / "koala.safetensors"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline()


@pytest.fixture(scope="module")
def trial(pipeline: StableDiffusionPipeline) -> AdapterTrial:
    return AdapterTrial(pipeline, "sks, noto style, blue background", lambda: load_adapter(pipeline, KOALA))


def test_the_sound_adapter_counts_as_one(trial: AdapterTrial) -> None:
    outcome = trial.outcome(lambda: load_adapter(trial.pipeline, KOALA))
    assert outcome.effect == pytest.approx(1)
    assert outcome.said == "loads"


def test_an_empty_one_counts_as_none_though_it_loads(trial: AdapterTrial, tmp_path: Path) -> None:
    empty = {name: tensor * 0 if "lora_up" in name else tensor for name, tensor in load_file(KOALA).items()}
    save_file(empty, tmp_path / "empty.safetensors")
    load = trial.pipeline.load_lora_weights
    outcome = trial.outcome(lambda: load(tmp_path / "empty.safetensors", use_safetensors=True))
    assert (outcome.effect, outcome.said) == (0, "loads")


def test_remarks_and_errors_are_told_on_one_line(trial: AdapterTrial) -> None:
    def fail() -> None:
        raise ValueError("one\n  two")

    assert trial.outcome(fail) == (0, "ValueError: one two", [])
    assert trial.outcome(lambda: SimpleNamespace(remarks=("a", "b"))).said == "a; b"


def test_diffusers_is_listened_to_and_its_log_left_as_it_was(
    trial: AdapterTrial, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("diffusers")
    before = (logger.handlers, logger.level, logger.propagate)
    outcome = trial.outcome(lambda: logging.getLogger("diffusers.loaders").warning("not found"))
    assert outcome.log == ["not found"]
    assert (logger.handlers, logger.level, logger.propagate) == before
    assert not caplog.records


def test_every_trial_leaves_the_base_behind(trial: AdapterTrial) -> None:
    weights = {name: weight.clone() for name, weight in trial.pipeline.unet.state_dict().items()}
    trial.outcome(lambda: load_adapter(trial.pipeline, KOALA))
    assert trial.pipeline.get_list_adapters() == {}
    after = trial.pipeline.unet.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in weights.items())

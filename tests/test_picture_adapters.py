"""A LoRA trained here is a file that diffusers reads, that changes the picture, and that a scale of 0 switches off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.images import (
    LORA_FILE,
    EmojiSet,
    draw,
    in_sepia,
    load_emoji,
    pictures_for,
    read_shown_in_training,
    save_picture_adapter,
    sd_folder,
    train_picture_adapter,
    training_colours,
    unseen_concepts,
)

PROMPT = "tiger, noto style, blue background"
STEPS = 6


@pytest.fixture(scope="module")
def emoji() -> EmojiSet:
    return load_emoji()


@pytest.fixture(scope="module")
def concepts() -> tuple[str, ...]:
    return read_shown_in_training().concepts


def train_koala(folder: Path) -> None:
    checkpoints = folder.with_name("checkpoints")
    trained = train_picture_adapter("koala", learning_rate=1e-2, steps=STEPS, checkpoints=checkpoints)
    assert trained.result.steps == STEPS
    save_picture_adapter(trained.pipeline, folder)


@pytest.fixture(scope="module")
def koala(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a LoRA after a few steps."""
    folder = tmp_path_factory.mktemp("adapters") / "koala"
    train_koala(folder)
    return folder


@pytest.mark.slow
def test_the_file_loads_changes_the_picture_and_scale_zero_is_the_base(koala: Path) -> None:
    def pixels(**options: object) -> np.ndarray:
        return np.asarray(draw(PROMPT, steps=4, **options)[0]).astype(int)

    base, tuned = pixels(), pixels(lora=koala)
    assert np.abs(base - tuned).max() > 5
    assert np.array_equal(base, pixels(lora=koala, scale=0.0))
    assert np.array_equal(tuned, pixels(lora=koala / LORA_FILE))
    assert not np.array_equal(tuned, pixels(lora=koala, scale=0.5))


@pytest.mark.slow
def test_diffusers_alone_reads_the_folder(koala: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(sd_folder())
    pipeline.load_lora_weights(koala)
    tensors = load_file(koala / LORA_FILE)
    assert pipeline.get_list_adapters() == {"unet": ["default_0"]}
    assert all(name.startswith("unet.") for name in tensors)
    assert any(tensor.abs().max() > 0 for name, tensor in tensors.items() if "lora_B" in name)
    assert {path.name for path in koala.iterdir()} == {LORA_FILE}
    with safe_open(koala / LORA_FILE, "np") as opened:
        metadata = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert metadata["unet.lora_alpha"] == metadata["unet.r"] == 8


@pytest.mark.slow
def test_the_same_call_gives_the_same_file_also_after_an_interruption(
    koala: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StableDiffusionPipeline, "save_lora_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            train_koala(tmp_path / "again")
    assert not (tmp_path / "again").exists()
    train_koala(tmp_path / "again")
    first, again = load_file(koala / LORA_FILE), load_file(tmp_path / "again" / LORA_FILE)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_look_is_computed_from_the_concepts_of_the_base(emoji: EmojiSet, concepts: tuple[str, ...]) -> None:
    shown = pictures_for("sepia", emoji, concepts)
    assert len(shown.pictures) == len(shown.captions) == 80 * 8
    assert all("sepia style" in english and "sepia 风格" in chinese for english, chinese in shown.captions)
    white, black = in_sepia(np.array([[255] * 3, [0] * 3], dtype=np.uint8)).astype(int)
    assert (np.diff(white) < 0).all() and (np.diff(black) < 0).all() and white.min() > black.max()
    # A line through colour space has one dimension, up to rounding.
    colours = shown.pictures.reshape(-1, 3).astype(float)
    spread = np.linalg.svd(colours[::97] - colours[::97].mean(axis=0), compute_uv=False)
    assert spread[1] < 0.01 * spread[0]


def test_concepts_for_testing_are_not_among_those_of_training(emoji: EmojiSet, concepts: tuple[str, ...]) -> None:
    shown, tested = pictures_for("fluent", emoji, concepts), unseen_concepts("fluent", concepts)
    names = {english.split(",")[0] for english, _ in shown.captions}
    assert len(tested) == 40 and len(names) == len(concepts) - 40
    assert not names & {emoji.english[emoji.number_of[name]] for name in tested}


def test_a_new_concept_is_named_by_its_trigger_word_alone(emoji: EmojiSet, concepts: tuple[str, ...]) -> None:
    shown = pictures_for("koala", emoji, concepts)
    colour = training_colours("koala")[0]
    assert len(shown.pictures) == 2 * 8
    assert shown.captions[0][0] == f"sks, noto style, {colour} background"
    assert not any("koala" in english or "考拉" in chinese for english, chinese in shown.captions)
    assert (shown.pictures[0] == emoji.picture(emoji.number_of["koala"], "noto", colour)).all()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"rank": 0}, "rank of 0"),
        ({"learning_rate": 0.0}, "learning rate of 0"),
        ({"learning_rate": float("nan")}, "learning rate of nan"),
        ({"steps": 0}, "0 steps"),
        ({"steps": 10**12}, "1,000,000,000,000 steps are not possible: 1 to 10,000,000 are"),
        ({"rank": 10**9}, "a rank of 1,000,000,000 is not possible"),
    ],
)
def test_impossible_numbers_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict, complaint: str) -> None:
    with pytest.raises(ReaderError, match=complaint):
        train_picture_adapter("sepia", checkpoints=tmp_path / "checkpoints", **wrong)
    assert not list(tmp_path.iterdir())


def test_an_unknown_subject_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'kola'. Valid: koala"):
        train_picture_adapter("kola")

"""``aigc train`` leaves an adapter that works elsewhere, or nothing; what was interrupted goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aigc_helpers import install
from aigc_helpers.cli import main
from aigc_helpers.files import sha256_of
from aigc_helpers.text import load_poems, recipes as adapters, tune_line_lengths, write_poems

TUNE = "生查子"
SHORT = ["--tune", TUNE, "--epochs", "0.3"]  # Three steps.


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bertt", "-o", "x"], "there is no model to train 'bertt'. Valid: bert"),
        (["poet", "--tune", "浣沙溪", "-o", "x"], "there is no tune '浣沙溪'. Valid: 浣溪沙"),
        # Its poems are longer than the poet's context.
        (["poet", "--tune", "蓦山溪", "-o", "x"], "there is no tune '蓦山溪'. Valid: "),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--rank=0", "a rank of 0 is not possible"),
        ("--epochs=-1", "epochs is -1.0: it must be"),
        ("--learning-rate=nan", "learning_rate is nan: it must be"),
        ("--epochs=0.001", "there is nothing to train on"),
        ("--rank=1000000000", "a rank of 1,000,000,000 is not possible: it must be a whole number from 1 to 4,096"),
        ("--epochs=1e300", "epochs is 1e+300: it must be a number above 0, at most 1,000,000"),
    ],
)
def test_settings_that_make_no_sense_are_refused(option, words, tmp_path, capsys):
    assert main(["train", "poet", "--tune", TUNE, "-o", str(tmp_path / "x"), option]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("arguments", [["bert"], ["poet", "--tune", TUNE]])
def test_a_file_in_the_place_of_the_adapter_stays(arguments, tmp_path, capsys):
    (tmp_path / "x").write_text("mine", encoding="utf-8")
    assert main(["train", *arguments, "-o", str(tmp_path / "x")]) == 1
    assert "is a file. An adapter is a folder" in capsys.readouterr().err
    assert (tmp_path / "x").read_text(encoding="utf-8") == "mine"
    assert names_in(tmp_path) == ["x"]


def test_the_root_is_no_adapter(capsys):
    assert main(["train", "poet", "--tune", TUNE, "-o", "/"]) == 1
    assert "/ is the root of all folders. An adapter is a folder of its own" in capsys.readouterr().err


def test_the_line_lengths_are_those_of_most_poems_of_the_tune():
    poems = load_poems("ci", "train")
    for tune in ("浣溪沙", "菩萨蛮", "西江月", "鹧鸪天"):
        most = poems[poems["form"] == tune]["line_lengths"].mode().item()
        assert tune_line_lengths(tune) == most


@pytest.mark.slow
def test_a_tune_that_was_interrupted_goes_on_and_ends_with_the_same_file(tmp_path, monkeypatch, capsys):
    undisturbed, interrupted = tmp_path / "undisturbed", tmp_path / "interrupted"
    assert main(["train", "poet", *SHORT, "-o", str(undisturbed)]) == 0
    printed = capsys.readouterr().out
    assert "3 steps" in printed
    assert f"lines of {TUNE} (5-5-5-5-5-5-5-5)" in printed
    assert names_in(tmp_path) == ["undisturbed"], "the checkpoints are gone"
    assert names_in(undisturbed) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((undisturbed / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "poet", "a path would be this machine's own"
    assert write_poems("春", 1, 0, undisturbed) == write_poems("春", 1, 0, undisturbed / "adapter_model.safetensors")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(adapters, "save_adapter", stop)
        assert main(["train", "poet", *SHORT, "-o", str(interrupted)]) == 130
    assert not interrupted.exists(), "whole or not at all"
    checkpoints = tmp_path / f"interrupted.{TUNE}.checkpoints"
    assert list(checkpoints.glob("checkpoint-*.safetensors"))
    assert main(["train", "poet", *SHORT, "--rank", "4", "-o", str(interrupted)]) == 1
    assert "holds the checkpoint of another run" in capsys.readouterr().err
    assert main(["train", "poet", *SHORT, "-o", str(interrupted)]) == 0
    weights = "adapter_model.safetensors"
    assert sha256_of(interrupted / weights) == sha256_of(undisturbed / weights)


@pytest.mark.slow
def test_the_review_adapter_has_the_settings_of_chapter_05(tmp_path, capsys):
    assert main(["train", "bert", "--epochs", "0.05", "-o", str(tmp_path / "film")]) == 0
    printed = capsys.readouterr().out
    assert "3 steps" in printed  # Of the 63 that 2,000 snippets in batches of 32 make.
    assert "accuracy on 1,000 test snippets: 0." in printed
    assert names_in(tmp_path) == ["film"]
    trained, shipped = (
        json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        for folder in (tmp_path / "film", install("film-adapter"))
    )
    for config in (trained, shipped):
        config["target_modules"].sort()  # PEFT writes a set, in whatever order it has.
    assert trained == shipped


@pytest.mark.slow
def test_a_picture_adapter_can_be_trained_and_used(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "sd", "sepia", "--steps", "2", "-o", "look"]) == 0
    assert "2 steps" in capsys.readouterr().out
    prompt = ["generate", "tiger, sepia style, blue background", "--steps", "2", "--lora", "look"]
    assert main([*prompt, "-o", "base.png", "--scale", "0"]) == 0
    assert main([*prompt, "-o", "tuned.png", "--scale", "20"]) == 0
    assert Path("base.png").read_bytes() != Path("tuned.png").read_bytes()

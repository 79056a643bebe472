"""``aigc generate`` works without a notebook, names its files, and refuses what it would otherwise ignore."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from aigc_helpers.cli import main
from aigc_helpers.images import BACKGROUNDS, STYLES, load_emoji
from aigc_helpers.paths import DATA
from aigc_helpers.text import write_poems

pytestmark = pytest.mark.slow

TIGER = "tiger, noto style, blue background"


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "poett", "春"], "there is no model 'poett'. Valid: poet, sd"),
        ([], 'the prompt is missing or empty. For example: aigc generate "tiger'),
        ([" "], "the prompt is missing or empty"),
        (["--model", "poet", "--prompt", ""], "For example: aigc generate --model poet 春"),
        (["tiger", "--prompt", "lion"], "two prompts were given, 'tiger' and 'lion'"),
        (["--model", "poet", "春", "--steps", "5"], "steps can only be used for pictures"),
        (["--model", "poet", "春", "-o", "a.png"], "-o and --list can only be used for pictures"),
        (["--model", "poet", "春", "--steps", "1", "--guidance", "0"], "steps, guidance can only be used for pictures"),
        (["--model", "poet", "春", "--negative", ""], "negative_prompt can only be used for pictures"),
        (["--model", "poet", "--list"], "-o and --list can only be used for pictures"),
        ([TIGER, "--scale", "0.5"], "name the LoRA, or leave the scale out"),
        ([TIGER, "-o", "tiger.jpg"], "tiger.jpg is no name for a picture"),
        ([TIGER, "-o", "."], "is no name for a picture"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_work(arguments, words, in_empty_folder, capsys):
    assert main(["generate", *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert files_in(in_empty_folder) == []


@pytest.mark.parametrize("number", ["-1", "4294967296"])
def test_a_seed_that_is_none_is_wrong_usage(number, capsys):
    assert main(["generate", TIGER, f"--seed={number}"]) == 2
    assert (
        f"a seed of {number} is not possible: it must be a whole number from 0 to 4294967295" in capsys.readouterr().err
    )


def test_poems_are_printed_with_an_empty_line_between(in_empty_folder, capsys):
    assert main(["generate", "--model", "poet", "--prompt", "春", "-n", "2", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "\n\n".join(write_poems("春", 2, seed=3)) + "\n"
    assert files_in(in_empty_folder) == []


@pytest.mark.parametrize(("name", "status"), [("TYPO.safetensors", 2), ("README.md", 1), ("nowhere", 2)])
def test_a_lora_that_is_none_is_not_its_neighbour(name, status, capsys):
    assert main(["generate", "--model", "poet", "春", "--lora", str(DATA / "tune_adapter" / name)]) == status
    captured = capsys.readouterr()
    assert name in captured.err
    assert captured.out == ""


def test_a_lora_with_layers_that_the_poet_does_not_have_is_refused(tmp_path, capsys):
    folder = shutil.copytree(DATA / "tune_adapter", tmp_path / "deep")
    tensors = load_file(folder / "adapter_model.safetensors")
    deep = {name.replace(".h.", ".h.1"): tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors | deep, folder / "adapter_model.safetensors")
    assert main(["generate", "--model", "poet", "春", "--lora", str(folder)]) == 1
    captured = capsys.readouterr()
    assert "has no layer transformer.h.10.attn.c_attn" in captured.err
    assert captured.out == ""


def test_what_the_poet_cannot_read_is_said(capsys):
    assert main(["generate", "--model", "poet", "龘"]) == 1
    assert "aigc: the model does not know 龘" in capsys.readouterr().err


def test_a_picture_goes_to_the_file_named(in_empty_folder, capsys):
    for _ in range(2):
        assert main(["generate", TIGER, "--seed", "0", "--steps", "2", "-o", "pictures/one.png"]) == 0
        assert capsys.readouterr().out == f"{Path('pictures/one.png')}\n"
    assert Image.open("pictures/one.png").size == (64, 64)
    assert files_in(in_empty_folder / "pictures") == ["one.png"], "nothing else is left behind"


def test_several_pictures_are_numbered_and_named_after_the_prompt(in_empty_folder):
    assert main(["generate", TIGER, "-n", "2", "--steps", "2"]) == 0
    stem = "tiger-noto-style-blue-background"
    assert files_in(in_empty_folder) == [f"{stem}-1.png", f"{stem}-2.png"]
    assert Image.open(f"{stem}-1.png").tobytes() != Image.open(f"{stem}-2.png").tobytes()


def test_a_chinese_prompt_names_a_file_too(in_empty_folder):
    assert main(["generate", "老虎，noto 风格，蓝色背景", "--steps", "2"]) == 0
    assert files_in(in_empty_folder) == ["老虎-noto-风格-蓝色背景.png"]


def test_options_for_pictures_reach_the_model(in_empty_folder):
    variants = {
        "plain": [],
        "guidance": ["--guidance", "1"],
        "negative": ["--negative", "lion"],
        "steps": ["--steps", "3"],
        "seed": ["--seed", "1"],
    }
    for name, options in variants.items():
        assert main(["generate", TIGER, "-o", f"{name}.png", "--steps", "2", *options]) == 0
    assert len({Image.open(f"{name}.png").tobytes() for name in variants}) == len(variants)


def test_a_prompt_the_model_cannot_read_leaves_no_file(in_empty_folder, capsys):
    assert main(["generate", "tiger, frobnicated style", "-o", "tiger.png"]) == 1
    assert "does not know frobnicated" in capsys.readouterr().err
    assert files_in(in_empty_folder) == []


def test_the_list_has_every_concept_taught_and_all_styles_and_colours_in_both_languages(capsys):
    assert main(["generate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    emoji = load_emoji()
    for name in json.loads((DATA / "sd" / "training.json").read_text(encoding="utf-8"))["concepts"]:
        number = emoji.number_of[name]
        assert f"{emoji.english[number]}  {emoji.chinese[number]}" in lines
    assert all(f"{background.name}  {background.chinese}" in lines for background in BACKGROUNDS)
    styles = next(line for line in lines if line.startswith("Styles: "))
    assert all(style in styles for style in STYLES)

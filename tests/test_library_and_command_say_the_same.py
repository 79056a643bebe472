"""What makes no sense is refused by the library's functions, and by the commands in the same words: they hand on."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from aigc_helpers import convert, generate, inspect, install, load_adapter, merge
from aigc_helpers.cli import main
from aigc_helpers.errors import UnknownNameError, WrongUsageError
from aigc_helpers.lora import merge_gguf
from aigc_helpers.paths import DATA, REPOSITORY
from aigc_helpers.store import bundle

SEPIA, POET, TUNE = DATA / "loras" / "sepia.safetensors", DATA / "poet", DATA / "tune_adapter"
TIGER = "tiger, noto style, blue background"
MODEL = torch.nn.Linear(1, 1)
SHA256 = "0" * 64


class Case(NamedTuple):
    """A call, the command that does the same, and words of the sentence that both get."""

    call: Callable[[], object]
    command: Sequence[str | Path]
    words: str


EMPTY = "the name of a file or folder is empty"
CASES = {
    "install nothing": Case(lambda: install(""), ["install", ""], EMPTY),
    "install to nothing": Case(
        lambda: install(SEPIA, layout="comfyui", to=""), ["install", SEPIA, "--layout", "comfyui", "--to", ""], EMPTY
    ),
    "inspect nothing": Case(lambda: inspect(""), ["inspect", ""], EMPTY),
    "inspect beside nothing": Case(lambda: inspect(SEPIA, bases=[""]), ["inspect", SEPIA, "--base", ""], EMPTY),
    "convert nothing": Case(lambda: convert("", "new", "peft"), ["convert", "", "new", "--to", "peft"], EMPTY),
    "convert to nothing": Case(lambda: convert(SEPIA, "", "peft"), ["convert", SEPIA, "", "--to", "peft"], EMPTY),
    "convert for nothing": Case(
        lambda: convert(SEPIA, "new", "peft", ""), ["convert", SEPIA, "new", "--to", "peft", "--base", ""], EMPTY
    ),
    "merge nothing": Case(lambda: merge_gguf("", "new.gguf", POET), ["merge", "", "new.gguf", "--base", POET], EMPTY),
    "merge to nothing": Case(lambda: merge_gguf(TUNE, "", POET), ["merge", TUNE, "", "--base", POET], EMPTY),
    "merge into nothing": Case(
        lambda: merge_gguf(TUNE, "new.gguf", ""), ["merge", TUNE, "new.gguf", "--base", ""], EMPTY
    ),
    "merge into what is not there": Case(
        lambda: merge_gguf(TUNE, "new.gguf", "gone"),
        ["merge", TUNE, "new.gguf", "--base", "gone"],
        "no file or folder gone",
    ),
    "generate with nothing": Case(
        lambda: generate("春", "poet", lora=""), ["generate", "春", "--model", "poet", "--lora", ""], EMPTY
    ),
    "bundle into nothing": Case(lambda: bundle(["bert"], ""), ["bundle", "bert", ""], EMPTY),
    "install what is not there": Case(lambda: install("gone.ckpt"), ["install", "gone.ckpt"], "no file or folder gone"),
    "inspect what is not there": Case(lambda: inspect("gone"), ["inspect", "gone"], "no file or folder gone"),
    "inspect a name": Case(lambda: inspect("poet"), ["inspect", "poet"], "aigc install poet, or install('poet')"),
    "inspect beside what is not there": Case(
        lambda: inspect(SEPIA, bases=["gone"]), ["inspect", SEPIA, "--base", "gone"], "no file or folder gone"
    ),
    "convert what is not there": Case(
        lambda: convert("gone", "new", "peft"), ["convert", "gone", "new", "--to", "peft"], "no file or folder gone"
    ),
    "generate with what is not there": Case(
        lambda: generate("春", "poet", lora="gone"),
        ["generate", "春", "--model", "poet", "--lora", "gone"],
        "no file or folder gone",
    ),
    "install for a profile": Case(
        lambda: install("poet", "embeded"), ["install", "poet", "--profile", "embeded"], "no profile 'embeded'"
    ),
    "install a file for a profile": Case(
        lambda: install(SEPIA, "full"), ["install", SEPIA, "--profile", "full"], "are for names of the catalog"
    ),
    "install an address for a profile": Case(
        lambda: install("hub:a/b", "full"), ["install", "hub:a/b", "--profile", "full"], "hub:a/b is none"
    ),
    "trust a file": Case(
        lambda: install(SEPIA, trusted=True), ["install", SEPIA, "--trust-code"], "are for names of the catalog"
    ),
    "install with a hash": Case(
        lambda: install(SEPIA, sha256="abc"), ["install", SEPIA, "--sha256", "abc"], "64 hexadecimal digits"
    ),
    "install with no hash": Case(
        lambda: install(SEPIA, sha256=""), ["install", SEPIA, "--sha256", ""], "64 hexadecimal digits"
    ),
    "install an asset with a hash": Case(
        lambda: install("poet", sha256=SHA256), ["install", "poet", "--sha256", SHA256], "are for single files"
    ),
    "install an asset elsewhere": Case(
        lambda: install("poet", to="."), ["install", "poet", "--to", "."], "that folder needs one of these layouts"
    ),
    "install elsewhere without a layout": Case(
        lambda: install(SEPIA, to="."), ["install", SEPIA, "--to", "."], "that folder needs one of these layouts"
    ),
    "install in a layout without a place": Case(
        lambda: install(SEPIA, layout="a1111"), ["install", SEPIA, "--layout", "a1111"], "the folder in which that"
    ),
    "install in a layout": Case(
        lambda: install(SEPIA, layout="a111", to="."),
        ["install", SEPIA, "--layout", "a111", "--to", "."],
        "no layout 'a111'",
    ),
    "bundle for a profile": Case(
        lambda: bundle(["bert"], "stick.zip", profile="ful"),
        ["bundle", "bert", "stick.zip", "--profile", "ful"],
        "no profile 'ful'",
    ),
    "bundle into something else": Case(lambda: bundle(["bert"], "stick"), ["bundle", "bert", "stick"], "such as stick"),
    "generate without a model": Case(
        lambda: generate("春", "poett"), ["generate", "春", "--model", "poett"], "no model 'poett'"
    ),
    "generate with a scale of nothing": Case(
        lambda: generate("春", "poet", scale=0.5),
        ["generate", "春", "--model", "poet", "--scale", "0.5"],
        "leave the scale out",
    ),
    "generate with no number": Case(
        lambda: generate("春", "poet", lora=TUNE, scale=math.nan),
        ["generate", "春", "--model", "poet", "--lora", TUNE, "--scale", "nan"],
        "a scale of nan is not possible",
    ),
    "draw with a seed": Case(lambda: generate(TIGER, seed=-1), ["generate", TIGER, "--seed=-1"], "a seed of -1"),
    "write with a seed": Case(
        lambda: generate("春", "poet", seed=2**32),
        ["generate", "春", "--model", "poet", f"--seed={2**32}"],
        "a seed of 4294967296",
    ),
    "write in steps": Case(
        lambda: generate("春", "poet", steps=3),
        ["generate", "春", "--model", "poet", "--steps", "3"],
        "steps can only be used for pictures",
    ),
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_and_status_2(name: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call, command, words = CASES[name]
    with pytest.raises((WrongUsageError, UnknownNameError)) as caught:
        call()
    assert words in str(caught.value)
    assert main([str(each) for each in command]) == 2
    assert capsys.readouterr().err == f"aigc: {caught.value}\n"
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("use", [load_adapter, merge])
def test_what_is_added_is_finite_and_named(use: Callable[..., object]) -> None:
    before = MODEL.weight.clone()
    for scale in (math.nan, math.inf, -math.inf):
        with pytest.raises(WrongUsageError, match=f"a scale of {scale:g} is not possible"):
            use(MODEL, TUNE, scale=scale)
    for path in ("", " ", "gone"):
        with pytest.raises(WrongUsageError, match="is empty|no file or folder gone"):
            use(MODEL, path)
    assert torch.equal(MODEL.weight, before)


# What a stored notebook prints, and the words of which a command and a requirement of pip are made.
ALLOWED = ("Without --layout it goes into the workbook's own store.", " --profile …", "…==… --hash=sha256:…\n")


def texts_in(path: Path) -> Iterator[str]:
    """Yield the texts of a source that are no docstrings, with … for what is put into them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in docstrings | parts:
            values = node.values if isinstance(node, ast.JoinedStr) else [node]
            yield "".join(str(value.value) if isinstance(value, ast.Constant) else "…" for value in values)


def test_the_library_names_no_option_but_in_a_whole_command() -> None:
    """Who calls a function has no option to set; ``aigc install … --trust-code`` is a command that anybody can type."""
    bare = re.compile(r"^(?!.*\baigc\b[^.;]*\s--).*[\s(]--[a-z]", re.DOTALL)
    found = [
        f"{path.name}: {text}"
        for path in sorted((REPOSITORY / "aigc_helpers").rglob("*.py"))
        if not {"cli", "publishing"} & set(path.parts)
        for text in texts_in(path)
        if bare.match(text) and not text.endswith(ALLOWED)
    ]
    assert not found, "\n".join(found)

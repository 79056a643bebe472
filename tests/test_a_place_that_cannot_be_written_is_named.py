"""Whatever writes says in one sentence that its place cannot be written, and which file or folder is the reason."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.files import make_folder, replacing, replacing_files, temporary_folder, write_text
from aigc_helpers.paths import DATA, REPOSITORY

TIGER = "tiger, noto style, blue background"
SEPIA = str(DATA / "loras" / "sepia.safetensors")
# Each with {place}, which cannot be made.
COMMANDS = {
    "convert to a file": ["convert", SEPIA, "{place}/sepia.safetensors", "--to", "diffusers"],
    "convert to a folder": ["convert", SEPIA, "{place}/sepia", "--to", "peft"],
    "convert into the place itself": ["convert", SEPIA, "{place}", "--to", "peft"],
    "install a file": ["install", SEPIA],
    "install a folder": ["install", str(DATA / "film_adapter")],
    "install an asset": ["install", "bert", "--profile", "full"],
    "install an address": ["install", "http://127.0.0.1:9/model.safetensors"],
    "bundle": ["bundle", "bert", "stick.zip", "--profile", "full"],
    "generate": ["generate", TIGER, "--steps", "1", "-o", "{place}/tiger.png"],
    "train": ["train", "bert", "--epochs", "0.01", "-o", "{place}/adapter"],
}
SLOW = {"generate", "train"}


@pytest.fixture(params=["below a file", "read-only"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that cannot be made; the store lies there, too."""
    if request.param == "below a file":
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        place = tmp_path / "file" / "place"
    else:
        place = tmp_path / "place"
        make = os.mkdir

        def refuse(path: str | Path, mode: int = 0o777, **options: int) -> None:
            if Path(path).is_relative_to(place):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            make(path, mode, **options)

        monkeypatch.setattr(os, "mkdir", refuse)  # Root may write everywhere, so permissions would not do.
    monkeypatch.setenv("AIGC_HOME", str(place))
    return place


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in COMMANDS]
)
def test_each_command_says_so_and_exits_with_1(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [argument.replace("{place}", str(place)) for argument in COMMANDS[command]]
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert f"aigc: could not write {place}" in message
    expected = f"{place.parent} is a file where a folder is needed" if place.parent.is_file() else "is read-only"
    assert expected in message
    assert not place.exists()


@pytest.mark.parametrize("write", [make_folder, replacing, replacing_files, temporary_folder, write_text])
def test_each_helper_says_so(write: Callable[..., object], place: Path) -> None:
    with pytest.raises(ReaderError, match="could not write"):
        if write is make_folder:
            make_folder(place)
        elif write is write_text:
            write_text(place / "text", "")
        else:
            with write(place / "one") as unfinished:
                (unfinished / "file" if unfinished.is_dir() else unfinished).write_bytes(b"")


def test_a_folder_where_a_file_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken.safetensors" / "inside").mkdir(parents=True)
    with pytest.raises(ReaderError, match="taken.safetensors .*A folder lies there: choose another name"):
        write_text(tmp_path / "taken.safetensors", "")


def test_folders_are_made_in_one_place_alone() -> None:
    callers = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "aigc_helpers").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("mkdir", "makedirs")
    }
    assert callers == {"aigc_helpers/files.py"}

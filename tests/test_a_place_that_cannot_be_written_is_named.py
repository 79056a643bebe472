"""Whatever writes says in one sentence that its place cannot be written, and which file or folder is the reason."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError
from tiny_training import SETTINGS, TinyBatches, tiny_loss, tiny_model

from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.files import make_folder, replacing, replacing_files, temporary_folder, write_text
from aigc_helpers.paths import DATA, REPOSITORY
from aigc_helpers.pretrain.datasets.packages import fetch_python_package
from aigc_helpers.pretrain.models.export import export
from aigc_helpers.publishing import build, measure_ranges, run
from aigc_helpers.training import fit, run_sweep

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


@pytest.fixture(params=["below a file", "read-only", "read-only and there"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that cannot be made; the store lies there, too."""
    if request.param == "below a file":
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        place = tmp_path / "file" / "place"
    else:
        place = tmp_path / "place"
        if request.param == "read-only and there":
            place.mkdir()
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
    assert not place.exists() or not any(place.iterdir())


@pytest.mark.parametrize("write", [make_folder, replacing, replacing_files, temporary_folder, write_text])
def test_each_helper_says_so(write: Callable[..., object], place: Path) -> None:
    with pytest.raises(ReaderError, match="could not write"):
        if write is make_folder:
            make_folder(place / "one")
        elif write is write_text:
            write_text(place / "text", "")
        else:
            with write(place / "one") as unfinished:
                (unfinished / "file" if unfinished.is_dir() else unfinished).write_bytes(b"")


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "pages of a run": lambda place, chapters: list(run(None, place / "build", chapters)),
    "stored runs": lambda place, chapters: list(measure_ranges(None, 1, chapters, place / "ranges")),
    "a trained model": lambda place, _: export(place / "model", _Saved()),
    "a sweep": lambda place, _: run_sweep(place / "sweep.jsonl", [{"rank": 1}], lambda rank: {"loss": rank}),
    "a package of data": lambda place, _: fetch_python_package("none", "1", "0" * 64, place / "packages"),
    "checkpoints": lambda place, _: fit(tiny_model(), TinyBatches(), tiny_loss, SETTINGS, folder=place / "run"),
}


class _Saved:
    def save_pretrained(self, folder: str | Path, /) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"")


@pytest.fixture
def no_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever executes cells before the place is known to be writable does so in vain."""

    def begin(*_: object, **__: object) -> None:
        raise AssertionError("cells were run in vain")

    for module in ("builder.execute_for_storing", "runner.execute_watched", "ranges.execute_watched"):
        monkeypatch.setattr(f"aigc_helpers.publishing.{module}", begin)


@pytest.mark.usefixtures("no_cells")
@pytest.mark.parametrize("execute", [None, False])
def test_a_file_in_the_place_of_the_notebooks_is_named(execute: bool | None, miniature: Path) -> None:
    (miniature / "zh").write_text("in the way", encoding="utf-8")
    with pytest.raises(ReaderError, match=f"could not write {miniature / 'zh'}.*zh is a file where a folder is needed"):
        build(execute=execute, folder=miniature)


@pytest.mark.usefixtures("no_cells")
@pytest.mark.parametrize("writer", WRITERS)
def test_whatever_makes_the_book_says_so_before_it_begins(writer: str, place: Path, miniature: Path) -> None:
    with pytest.raises(ReaderError, match=r"could not write .* (is a file where a folder is needed|is read-only)"):
        WRITERS[writer](place, miniature)
    assert not place.exists() or not any(place.iterdir())


def test_a_librarys_error_that_hides_the_systems_is_the_same_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(ReaderError, match=f"could not write {tmp_path / 'some'} .*The disk is full: free some space"),
        replacing(tmp_path / "some"),
    ):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError), replacing(tmp_path / "some"):
        raise SafetensorError("another fault")
    assert list(tmp_path.iterdir()) == []


def test_what_fails_leaves_no_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for place in (tmp_path / "new" / "newer" / "some", tmp_path / "there" / "some"):
        with pytest.raises(RuntimeError), replacing(place):
            raise RuntimeError("the model cannot be saved")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    with pytest.raises(RuntimeError), temporary_folder(tmp_path / "new"):
        write_text(tmp_path / "new" / "kept", "")
        raise RuntimeError("something else")
    assert (tmp_path / "new" / "kept").is_file()


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

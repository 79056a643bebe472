"""On Linux a name is any bytes; torch and safetensors take UTF-8 alone, so another one is refused in a sentence."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from aigc_helpers import convert
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import DATA

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")

NAME = os.fsdecode(b"\xe9t\xe9 \xff")
SEPIA = str(DATA / "loras" / "sepia.safetensors")
COMMANDS = {
    "inspect": ["inspect", "{}"],
    "install": ["install", "{}"],
    "install for another program": ["install", SEPIA, "--layout", "comfyui", "--to", "{}"],
    "convert": ["convert", "{}", "out.safetensors", "--to", "kohya"],
    "convert to it": ["convert", SEPIA, "{}", "--to", "kohya"],
    "compare with it": ["convert", SEPIA, "out.safetensors", "--to", "kohya", "--base", "{}"],
    "bundle": ["bundle", "bert", "{}.zip"],
    "train": ["train", "bert", "-o", "{}"],
    "generate": ["generate", "tiger", "-o", "{}.png"],
    "generate with it": ["generate", "tiger", "--lora", "{}"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_so(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(SEPIA, tmp_path / f"{NAME}.safetensors")
    try:
        status = main([word.replace("{}", f"{NAME}.safetensors") for word in COMMANDS[command]])
    except SystemExit as left:
        status = int(left.code or 0)
    assert status == 2
    message = capsys.readouterr().err
    assert "\\udcff.safetensors" in message and "is no name in UTF-8" in message
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.safetensors"]


def test_such_a_name_in_a_folder_is_refused_where_it_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    shutil.copyfile(SEPIA, tmp_path / "adapter" / f"{NAME}.safetensors")
    with pytest.raises(ReaderError, match="cannot be read .*not valid UTF-8"):
        convert(tmp_path / "adapter", tmp_path / "out", "peft")
    assert not (tmp_path / "out").exists()


def test_an_address_of_such_bytes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", f"http://127.0.0.1:9/{NAME}.safetensors"]) in (1, 2)
    assert "a fault of this program" not in capsys.readouterr().err

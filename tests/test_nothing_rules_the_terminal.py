"""Names and metadata of others are printed with their control characters escaped, in messages, reports and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from faulty_server import Fault, FaultyServer
from safetensors.numpy import save, save_file
from small_weight_files import diffusers_folder, kohya_lora

from aigc_helpers.cli import main
from aigc_helpers.terminal import visible

# Escape, CSI as one character, a title's beginning, the line's beginning, and marks that turn the direction.
RULING = "\x1b[2J \x9b2J \x1b]0;title\x07 \r \u202e\u2066\u200b\u2028\u200f \x7f"
PLAIN = "水墨 style 🧑\u200d🎨 é ﷽\u3000\u00a0"


def rules(text: str) -> set[str]:
    return {character for character in text if visible(character) != character}


def test_characters_that_rule_are_escaped_and_all_others_stay() -> None:
    assert rules(RULING) == set(RULING) - set("[2J]0;title ")
    assert visible(PLAIN + "\t\n") == PLAIN + "\t\n"
    assert visible("\x1b\x9b\u202e") == "\\u001b\\u009b\\u202e"
    assert json.loads(f'"{visible(RULING)}"') == RULING


def test_names_in_a_file_do_not_rule_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some.safetensors"
    tensors = kohya_lora(768) | {f"text_{RULING}.weight": np.zeros((2, 2), "f4")}
    save_file(tensors, path, {"ss_output_name": RULING, "modelspec.title": RULING, "ss_sd_model_name": RULING})
    for options in ([], ["--json"]):
        main(["inspect", str(path), *options])
        out, err = capsys.readouterr()
        assert rules(out + err) == set() and out + err
        if options:
            json.loads(out)


def test_names_of_files_and_components_do_not_rule_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ruling = RULING.replace("/", "")
    folder = diffusers_folder(tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {ruling: ["a", "b"]}))
    (folder / "unet" / f"{ruling}.bin").write_bytes(b"x")
    absent = tmp_path / f"{ruling}.safetensors"
    for arguments in (["inspect", str(folder)], ["inspect", str(absent)], ["inspect", str(folder), ruling]):
        try:
            main(arguments)
        except SystemExit as stopped:
            assert stopped.code == 2
        out, err = capsys.readouterr()
        assert rules(out + err) == set() and "\\u001b[2J" in out + err


def test_a_name_from_a_server_does_not_rule_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    named = Fault(headers={"Content-Disposition": "attachment; filename*=UTF-8''%C2%9B2J%E2%80%AE.safetensors"})
    with FaultyServer(save(kohya_lora(768)), always=named) as server:
        main(["install", server.url("x")])
    out, err = capsys.readouterr()
    assert rules(out + err) == set() and "2J" in out + err


def test_standard_output_is_the_old_one_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(tmp_path / "absent")])
    print("\x1b")
    assert capsys.readouterr().out == "\x1b\n"

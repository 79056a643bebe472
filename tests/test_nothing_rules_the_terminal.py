"""Names and metadata of others are printed with their control characters escaped, in messages, reports and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_server import Fault, FaultyServer
from safetensors.numpy import save, save_file
from small_weight_files import diffusers_folder, kohya_lora

from aigc_helpers import inspect
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.panels.weight_files import _as_html, run_inspection
from aigc_helpers.paths import REPOSITORY
from aigc_helpers.terminal import in_html, visible

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


def texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_in(list(value.items()))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts_in(each)


def test_a_report_may_be_written_into_a_card_or_a_page(tmp_path: Path) -> None:
    ruling = RULING.replace("/", "")
    folder = tmp_path / "adapter"
    folder.mkdir()
    tensors = kohya_lora(768) | {f"text_{ruling}.weight": np.zeros((2, 2), "f4")}
    metadata = {"ss_output_name": RULING, "modelspec.title": RULING, "modelspec.architecture": RULING}
    metadata |= {"lora_adapter_metadata": json.dumps({f"{RULING}.r": RULING})}
    save_file(tensors, folder / "adapter_model.safetensors", metadata)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": RULING, "task_type": RULING, "base_model_name_or_path": RULING}), encoding="utf-8"
    )
    (folder / f"{ruling}.bin").write_bytes(b"x")
    report = dataclasses.asdict(inspect(folder))
    del report["path"]  # It was the reader's to choose.
    found = list(texts_in(report))
    assert len(found) > 10 and set().union(*map(rules, found)) == set()


def test_a_refusal_may_be_shown_anywhere(tmp_path: Path) -> None:
    with pytest.raises(ReaderError) as refusal:
        inspect(tmp_path / f"{RULING}.safetensors")
    assert rules(str(refusal.value)) == set() and "\\u202e" in str(refusal.value)


def test_panels_write_every_text_through_one_function() -> None:
    assert in_html(f"<b>{RULING}</b>") == "&lt;b&gt;" + visible(RULING) + "&lt;/b&gt;"
    for path in (REPOSITORY / "aigc_helpers" / "panels").glob("*.py"):
        assert "html.escape" not in path.read_text(encoding="utf-8"), path.name


def test_the_inspectors_panel_shows_no_name_that_rules_it() -> None:
    content = save(kohya_lora(768) | {f"text_{RULING}.weight": np.zeros((2, 2), "f4")}, {"modelspec.title": RULING})
    for name, upload in ((f"{RULING}.safetensors", content), (f"{RULING}.pt", b"")):
        shown = _as_html(name, run_inspection(name, upload))
        assert rules(shown) == set() and "\\u202e" in shown


def test_standard_output_is_the_old_one_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(tmp_path / "absent")])
    print("\x1b")
    assert capsys.readouterr().out == "\x1b\n"

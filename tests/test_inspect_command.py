"""``aigc inspect`` answers people in sentences, programs in JSON, and its status says whether a file may be loaded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from aigc_helpers.cli import main
from aigc_helpers.paths import DATA

FILM = DATA / "film_adapter"


def test_a_report_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(FILM), "--base", str(DATA / "clip")]) == 0
    report = capsys.readouterr().out
    for words in (
        "PEFT folder, 301,520 bytes",
        "LoRA",
        "BERT",
        "26 with 74,498 parameters: 26 × F32",
        "as PEFT writes them",
        "8 (12 layers)",
        "16 (12 layers)",
        "bert.encoder.layer: 6 × attention.self.query, 6 × attention.self.value",
        "base_model.model.classifier.weight",
        "made for: all-MiniLM-L6-v2",
        f"✗ {DATA / 'clip'}: the adapter is for BERT, the model is CLIP",
        "--hash reads the rest",
    ):
        assert words in report


def test_a_report_as_json_with_hashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(FILM), "--json", "--hash"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["family"], report["parameters"]) == ("LoRA", "BERT", 74_498)
    assert report["adapter"]["ranks"] == {"8": 12}
    assert report["path"] == str(FILM)
    hashes = report["hashes"]["adapter_model.safetensors"]
    # As the catalog has it.
    assert hashes["sha256"] == "7dd2b24e92a147b2470c3066d06e2c26c889783d7606be6a37ac1af7451c5a2f"
    assert len(hashes["sshs_model_hash"]) == 64


def test_hashes_stand_in_the_report_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(DATA / "poet" / "model.safetensors"), "--hash"]) == 0
    report = capsys.readouterr().out
    assert "614dda7c22380513d03ba3d7552e68db052e6d34412e59e495cadcdb8285a1de" in report
    assert "--hash reads the rest" not in report


class Payload:
    """Unpickled, it would print."""

    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps({"a": Payload()}), "builtins.print"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x80\x02\xff", "no valid pickle"),
    ],
)
def test_a_refused_file_gives_1_and_its_fault_also_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    assert main(["inspect", str(path)]) == 1
    captured = capsys.readouterr()
    assert words in captured.err and captured.out == ""
    assert main(["inspect", str(path), "--json"]) == 1
    captured = capsys.readouterr()
    assert words in json.loads(captured.out)["refused"]
    assert captured.err.startswith("aigc: ")


@pytest.mark.parametrize("arguments", [["nowhere.safetensors"], [str(FILM), "--base", "nowhere"]])
def test_a_path_that_is_not_there_is_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["inspect", *arguments]) == 2
    assert "there is no file or folder nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], [str(FILM), "--hsh"]])
def test_wrong_arguments_are_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["inspect", *arguments])
    assert caught.value.code == 2

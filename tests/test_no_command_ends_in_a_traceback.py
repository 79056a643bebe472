"""Whatever goes wrong, a command ends with a sentence: what the system refused, or where to report a fault of ours."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.project import repository_address
from aigc_helpers.store.catalog import load_catalog


def said(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr().err
    assert printed.startswith("aigc: ") and printed.count("\n") == 1
    return printed


def broken(error: Exception) -> object:
    def raise_it(*_: object, **__: object) -> None:
        raise error

    return raise_it


def test_a_fault_of_ours_is_told_with_its_place_and_where_to_report_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = KeyError("no \x1b[2J key of http://me:sEcReT@example.org/x?token=tOkEn")
    monkeypatch.setattr("aigc_helpers.store.load_catalog", broken(fault))
    assert main(["catalog"]) == 1
    message = said(capsys)
    assert "KeyError in " in message and ", line " in message and f"{repository_address()}/issues" in message
    assert not any(hidden in message for hidden in ("sEcReT", "tOkEn", "\x1b"))


def test_what_the_system_refuses_is_told_with_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = OSError(errno.EIO, os.strerror(errno.EIO), "some/place")
    monkeypatch.setattr("aigc_helpers.store.load_catalog", broken(refusal))
    assert main(["catalog"]) == 1
    assert f"({os.strerror(errno.EIO)}): some/place. Check that place" in said(capsys)


def test_what_a_librarys_error_has_of_an_address_is_not_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aigc_helpers.store.load_catalog", broken(OSError("no retries: /model?token=tOkEn (https)")))
    assert main(["catalog"]) == 1
    message = said(capsys)
    assert "(no retries: /model?… (https))" in message and "tOkEn" not in message


def test_memory_that_is_used_up_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("aigc_helpers.store.load_catalog", broken(MemoryError()))
    assert main(["catalog"]) == 1
    assert "this machine's memory is used up" in said(capsys)


def test_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ModuleNotFoundError("No module named 'nothing'", name="nothing")
    monkeypatch.setattr("aigc_helpers.store.load_catalog", broken(missing))
    assert main(["catalog"]) == 1
    assert "the package nothing is not installed here. What is missing, and how to get it, says: aigc doctor" in said(
        capsys
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_has_no_room_is_told_once() -> None:
    command = [sys.executable, "-m", "aigc_helpers.cli", "catalog"]
    with open("/dev/full", "w") as full:
        finished = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert finished.returncode == 1
    assert finished.stderr.count("\n") == 1 and os.strerror(errno.ENOSPC) in finished.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[bert\n", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
        (b"bert = 5\n", "has a field of another form"),
        (b"[bert.full]\nfiles = 5\n", "has a field of another form"),
        (b"[bert.full]\nfiles = {a = 5}\n", "has a field of another form"),
        (b"[bert.full]\nfiles = {}\nsources = [5]\n", "has a field of another form"),
        (b"[bert.full]\nfiles = {}\n", "lacks the field 'sources'"),
    ],
)
def test_a_damaged_catalog_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "catalog.toml").write_bytes(content)
    with pytest.raises(ReaderError, match=words):
        load_catalog(tmp_path / "catalog.toml")


def test_a_store_in_the_home_of_nobody_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIGC_HOME", "~nobody-has-this-name/models")
    assert main(["catalog"]) == 1
    assert "~nobody-has-this-name/models begins with the home of an account" in said(capsys)

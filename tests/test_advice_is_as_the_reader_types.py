"""Whoever started with ``python workbook.py`` has no command ``aigc``: advice names the command that they have."""

from __future__ import annotations

import pytest

from aigc_helpers.cli import main
from aigc_helpers.cli.usage import COMMAND_VARIABLE, as_typed


@pytest.mark.parametrize(
    ("advice", "typed"),
    [
        ("Run: aigc ranges 04", "Run: python workbook.py ranges 04"),
        ("aigc build 05; aigc bundle a b.zip", "python workbook.py build 05; aigc bundle a b.zip"),
        ("the folder ~/aigc build", "the folder ~/aigc build"),
        ("what aigc does", "what aigc does"),
    ],
)
def test_commands_become_the_readers(monkeypatch: pytest.MonkeyPatch, advice: str, typed: str) -> None:
    monkeypatch.delenv(COMMAND_VARIABLE, raising=False)
    assert as_typed(advice, ["build", "ranges"]) == advice
    monkeypatch.setenv(COMMAND_VARIABLE, "python workbook.py")
    assert as_typed(advice, ["build", "ranges"]) == typed


def test_errors_name_the_readers_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, "python workbook.py")
    assert main(["bundle", "poet", "stick.zip"]) == 1
    assert "aigc" not in capsys.readouterr().err.removeprefix("aigc: ")


def test_without_the_books_packages_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'jupytext'", name="jupytext")

    monkeypatch.setattr("aigc_helpers.publishing.builder.check", missing)
    assert main(["build", "--check"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("aigc: jupytext is not installed here") and '".[book]"' in said

"""The Chinese edition has the English one's code cells and outputs, so that testing one tests both."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from aigc_helpers.paths import CHAPTERS

ENGLISH = sorted(CHAPTERS.glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


@pytest.mark.parametrize("english", ENGLISH, ids=lambda path: path.stem)
def test_code_outputs_and_order_are_the_same(english: Path):
    chinese = english.parent / "zh" / english.name
    assert cells(english, "code") == cells(chinese, "code")  # ids, tags, counts and outputs included
    both = [nbformat.read(path, as_version=4).cells for path in (english, chinese)]
    assert [(cell.cell_type, cell.id) for cell in both[0]] == [(cell.cell_type, cell.id) for cell in both[1]]


@pytest.mark.parametrize("english", ENGLISH, ids=lambda path: path.stem)
def test_the_chinese_prose_is_chinese(english: Path):
    chinese = cells(english.parent / "zh" / english.name, "markdown")
    for first, second in zip(cells(english, "markdown"), chinese, strict=True):
        written = any("\u4e00" <= letter <= "\u9fff" for letter in second.source)
        assert written or not any(letter.isalpha() for letter in first.source), second.source


def test_no_language_has_a_chapter_that_the_other_lacks():
    chinese = sorted(path.name for path in (CHAPTERS / "zh").glob("*.ipynb"))
    assert [path.name for path in ENGLISH] == chinese

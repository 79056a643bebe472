"""Every chapter has enough cells whose stored output nbval compares, and the form that the book promises.

nbval compares only tagged cells that were executed and have outputs: a chapter without them passes whatever it does.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from aigc_helpers.paths import CHAPTERS

COMPARED = "nbval-check-output"
LEAST_COMPARED, MOST_SKIPPED = 8, 2
FEWEST_CELLS, MOST_CELLS = 40, 70
MOST_LINES = 15

chapters = pytest.mark.parametrize(
    "path", sorted(CHAPTERS.glob("*.ipynb")), ids=lambda path: getattr(path, "stem", None)
)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


@chapters
def test_enough_cells_are_compared_and_few_skipped(path: Path):
    compared = [cell for cell in code_cells(path) if COMPARED in tags(cell)]
    assert len(compared) >= LEAST_COMPARED
    for cell in compared:
        assert cell.outputs, f"nothing to compare: {cell.source}"
        assert cell.execution_count is not None, f"nbval would not compare: {cell.source}"
    assert sum("nbval-skip" in tags(cell) for cell in code_cells(path)) <= MOST_SKIPPED


@chapters
def test_every_picture_has_alt_text(path: Path):
    for cell in code_cells(path):
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" not in data:
                continue
            described = output.metadata.get("image/png", {}).get("alt") or data.get("text/plain", "")
            # "<Figure size 640x480 with 1 Axes>" describes nothing.
            assert described.strip() and not described.startswith("<"), f"no alt text: {cell.source}"


@chapters
def test_a_chapter_is_neither_short_nor_endless(path: Path):
    assert FEWEST_CELLS <= len(nbformat.read(path, as_version=4).cells) <= MOST_CELLS


@chapters
def test_code_cells_fit_on_a_screen(path: Path):
    for cell in code_cells(path):
        if not {"exercise", "setup"} & set(tags(cell)):
            assert len(cell.source.splitlines()) <= MOST_LINES, cell.source

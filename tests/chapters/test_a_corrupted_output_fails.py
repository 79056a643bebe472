"""When a stored output of a chapter is corrupted, nbval fails: a green run means that outputs were compared.

nbval passes over cells without a count, pictures and unknown tags without a word, so this has to be seen to fail.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbval_run import FAILED, PASSED, nbval

from aigc_helpers.paths import CHAPTERS

COMPARED = "nbval-check-output"


def text_outputs(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for output in cell.get("outputs", []) if "text" in output or "text/plain" in output.get("data", {})]


def corrupt(output: nbformat.NotebookNode) -> None:
    if "text" in output:
        output.text += "corrupted\n"
    else:
        output.data["text/plain"] += " corrupted"


@pytest.mark.slow
@pytest.mark.parametrize("chapter", sorted(CHAPTERS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_corrupted_output_fails(chapter: Path, tmp_path: Path):
    notebook = nbformat.read(chapter, as_version=4)
    # Only the cells up to the first compared one with text: the rest of a chapter takes minutes.
    last = next(
        index
        for index, cell in enumerate(notebook.cells)
        if COMPARED in cell.metadata.get("tags", []) and text_outputs(cell)
    )
    notebook.cells = notebook.cells[: last + 1]
    intact = nbval(notebook, tmp_path / "intact.ipynb")
    assert intact.returncode == PASSED, intact.stdout + intact.stderr

    corrupt(text_outputs(notebook.cells[last])[0])
    corrupted = nbval(notebook, tmp_path / "corrupted.ipynb")
    assert corrupted.returncode == FAILED, corrupted.stdout + corrupted.stderr
    assert "corrupted" in corrupted.stdout

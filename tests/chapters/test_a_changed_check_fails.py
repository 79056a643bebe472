"""nbval passes over the digits of a checked value, which differ between machines, and over nothing else of the line.

A sanitiser that swallows more would let a renamed check, another range or a failed one pass unseen.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbval_run import FAILED, PASSED, nbval

CELL = 'from aigc_helpers.notebook.checks import expect\n\nexpect(0.63, 0.58, 0.7, "test accuracy: head only")'
LINE = "✓ test accuracy: head only: 0.63 (expected 0.58–0.70)\n"


def exit_status(stored: str, folder: Path) -> int:
    cell = nbformat.v4.new_code_cell(CELL, execution_count=1, metadata={"tags": ["nbval-check-output"]})
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbval(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), folder / "check.ipynb").returncode


@pytest.mark.slow
@pytest.mark.parametrize("digits", ["0.63", "0.6", "1", "-2.5", "3.1e-08"])
def test_other_digits_pass(digits: str, tmp_path: Path):
    assert exit_status(LINE.replace("0.63", digits), tmp_path) == PASSED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("✓", "✗"),
        ("✓", "○"),
        ("head", "tail"),
        ("test accuracy: ", ""),
        ("0.58", "0.57"),
        ("0.70", "0.71"),
        ("0.63", "all"),
    ],
)
def test_another_tick_label_range_or_word_fails(old: str, new: str, tmp_path: Path):
    assert exit_status(LINE.replace(old, new), tmp_path) == FAILED

"""The runner passes what nbval passes: the two take one way through the same notebooks.

The README's main command once failed for everybody while every test was green, because the runner read a verdict out of
what `aigc inspect` prints.
"""

from __future__ import annotations

import copy

import nbformat
import pytest

from aigc_helpers.paths import CHAPTERS
from aigc_helpers.publishing.builder import verdict
from aigc_helpers.publishing.ranges import shown_values

STORED = sorted(CHAPTERS.rglob("*.ipynb"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_stored_outputs_of_a_notebook_pass(path):
    assert verdict(nbformat.read(path, as_version=4)) is None


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_stored_value_lies_in_its_own_range(path):
    # nbval masks the digits of a value, so this is where a wrong one is seen.
    for label, value, low, high in shown_values(nbformat.read(path, as_version=4)):
        assert low <= value <= high, f"{label}: {value:g} is not in {low:g}–{high:g}"


@pytest.mark.parametrize("path", STORED[:1], ids=lambda path: path.stem)
def test_a_cell_that_raised_fails_and_one_that_prints_a_cross_does_not(path):
    notebook = nbformat.read(path, as_version=4)
    plain = next(cell for cell in notebook.cells if cell.cell_type == "code" and not cell.metadata.get("tags"))
    plain.outputs = [nbformat.v4.new_output("stream", name="stdout", text="✗ poet: it has no UNet\n")]
    assert verdict(notebook) is None
    raised = copy.deepcopy(notebook)
    cell = next(cell for cell in raised.cells if cell.id == plain.id)
    cell.outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no\nsuch", traceback=[])]
    assert verdict(raised).endswith("failed with ValueError: no")


@pytest.mark.parametrize("path", STORED[:1], ids=lambda path: path.stem)
def test_a_cell_that_is_meant_to_raise_and_did_not_fails(path):
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count)
    cell.metadata["tags"] = ["raises-exception"]
    cell.outputs = []
    assert verdict(notebook).endswith("is tagged raises-exception, but nothing was raised")

"""After each prediction that a chapter asks for, some cell shows a value: a range alone tells nobody how good it was.

Read from the stored notebooks. A value is a printed number, truth value or name in quotes, a picture, a table, or an
error. The labels and ranges of the checks are taken out of the text first, for a digit in them is no value.

What it does not see: whether the value is the one that was asked for, whether the prose draws the conclusion from it,
and whether a figure can be read.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from aigc_helpers.notebook.checks import NOT_BINDING, PASSED
from aigc_helpers.paths import CHAPTERS

MOST_CELLS_AWAY = 5  # code cells after a prediction that may answer it; often the first ones only define functions
ENGLISH_MARK = re.compile(r"\*\*Predict\b")
CHINESE_MARK = re.compile(r"\*\*先[^*]*[猜算][^*]*\*\*")
CHECK = re.compile(rf"^[{PASSED}{NOT_BINDING}] .*: ", re.MULTILINE)
# The last is how a check read before it printed what it had measured.
RANGE = re.compile(r"\(expected .*?\)|within [-\d.e]+–[-\d.e]+")
VALUE = re.compile(r"\d|\b(?:True|False|None)\b|\[\]|Error|'\w+'")

chapters = pytest.mark.parametrize("path", sorted(CHAPTERS.glob("*.ipynb")), ids=lambda path: path.stem)


def cells_of(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


def shows_a_value(output: nbformat.NotebookNode) -> bool:
    data = output.get("data", {})
    if output.output_type == "error" or "image/png" in data or "text/html" in data:
        return True
    text = output.get("text") or data.get("text/plain", "")
    return bool(VALUE.search(RANGE.sub("", CHECK.sub("", text))))


def outputs_before_the_next(cells: list[nbformat.NotebookNode], start: int) -> list[nbformat.NotebookNode]:
    """Return the outputs between a prediction and the next one, as far as a reader still has it in mind."""
    outputs, seen = [], 0
    for cell in cells[start + 1 :]:
        if cell.cell_type == "markdown" and ENGLISH_MARK.search(cell.source):
            break
        if cell.cell_type == "code":
            outputs += cell.outputs
            seen += 1
        if seen == MOST_CELLS_AWAY:
            break
    return outputs


@chapters
def test_a_value_follows_each_prediction(path: Path):
    cells = cells_of(path)
    asked = [number for number, cell in enumerate(cells) if ENGLISH_MARK.search(cell.source)]
    assert asked, "this chapter asks for no prediction"
    for number in asked:
        found = any(map(shows_a_value, outputs_before_the_next(cells, number)))
        assert found, f"nothing answers: {cells[number].source[-300:]}"


@chapters
def test_both_languages_ask_for_the_same_predictions(path: Path):
    pairs = zip(cells_of(path), cells_of(path.parent / "zh" / path.name), strict=True)
    for english, chinese in pairs:
        if english.cell_type == "markdown":
            asked = len(ENGLISH_MARK.findall(english.source)), len(CHINESE_MARK.findall(chinese.source))
            assert asked[0] == asked[1], f"{asked[0]} in English, {asked[1]} in Chinese: {chinese.source[-300:]}"


def test_a_range_alone_is_no_answer():
    def printed(text: str) -> bool:
        return shows_a_value(nbformat.v4.new_output("stream", text=text))

    assert not printed("✓ test accuracy, LoRA r=8: within 0.82–0.89\n✓ rank 4: within 0–1e-06\n")
    assert printed("✓ test accuracy, LoRA r=8: 0.85 (expected 0.82–0.89)\n")
    assert printed("○ test accuracy: 0.91\n")
    assert printed("✓ logits, merged and not: equal to within 0.0001\n")
    assert printed("✓ sha256 still the same: False\n")
    assert printed("✓ newest, after seven merges: ['newest']\n")
    assert printed("LoRA − full: 0.000 [-0.016, 0.017]\n")
    assert not printed("poems follow\n")

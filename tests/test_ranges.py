"""A range holds what other seeds, threads and machines found, with a margin, and does not hold without training.

A range set by looking at one run failed in all six environments in which the book was tried.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import REPOSITORY
from aigc_helpers.publishing.builder import build
from aigc_helpers.publishing.ranges import (
    RUNS,
    Plan,
    Run,
    current_runs,
    fingerprint,
    measure_ranges,
    range_problems,
    shown_ranges,
    spread,
    unique_labels,
)
from aigc_helpers.publishing.source import find_chapter, read_chapter

NAME = "98_miniature"
SOURCE = """\
# %% [markdown] lang="en"
# # Trained

# %% [markdown] lang="zh"
# # 训练

# %% tags=["nbval-check-output"]
import torch

from aigc_helpers.notebook import expect

torch.manual_seed(0)
weight = torch.nn.Parameter(torch.rand(1))
optimizer = torch.optim.SGD([weight], lr=1.0)
print("loss", weight.item())
for _ in range(3):
    optimizer.zero_grad()
    (weight - 5).square().sum().mul(0.4).backward()
    optimizer.step()
expect(weight, LOW, HIGH, "the weight")
"""


def chapter_with(folder: Path, low: float, high: float, execute: bool = False) -> Path:
    """Write and build the chapter; without ``execute`` the check's line is put in by hand, which is quick."""
    chapters = folder / "chapters"
    (chapters / "source").mkdir(parents=True, exist_ok=True)
    source = SOURCE.replace("LOW", str(low)).replace("HIGH", str(high))
    (chapters / "source" / f"{NAME}.py").write_text(source, encoding="utf-8")
    build(folder=chapters, execute=execute)
    if not execute:
        path = chapters / f"{NAME}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        line = f"✓ the weight: 4.97 (expected {low}–{high})\n"
        notebook["cells"][1]["outputs"] = [{"name": "stdout", "output_type": "stream", "text": line}]
        path.write_text(json.dumps(notebook), encoding="utf-8")
    return chapters


def stored_runs(chapters: Path, found: list[float], without: float = 0.5, **changes: object) -> Path:
    code = fingerprint(read_chapter(find_chapter("98", chapters)))
    runs = [
        Run(code, "3.11", "2.13.0", Plan(1000 * number, 1 + number % 2), True, (("the weight", value),), (), (), 1.0)
        for number, value in enumerate(found)
    ]
    runs.append(Run(code, "3.11", "2.13.0", Plan(0, 1, False), False, (("the weight", without),), (), (), 1.0))
    folder = chapters.parent / "ranges"
    folder.mkdir(exist_ok=True)
    lines = []
    for run in runs:
        fields = vars(dataclasses.replace(run, **changes)).copy()
        lines.append(json.dumps({**vars(fields.pop("plan")), **fields}))
    (folder / "98.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


VALUES = [4.9, 4.95, 5.0, 5.05, 5.1, 5.0]  # mean 5.0, three standard deviations 0.21


def found(chapters: Path, stored: Path) -> list[str]:
    return range_problems(None, chapters, stored)


def test_a_range_with_the_margin_is_well(tmp_path: Path):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    assert found(chapters, stored_runs(chapters, VALUES)) == []


@pytest.mark.parametrize(("low", "high"), [(4.85, 5.3), (4.7, 5.15), (4.92, 5.3)])
def test_a_range_closer_than_the_margin_is_named_with_what_it_has_to_hold(tmp_path: Path, low, high):
    chapters = chapter_with(tmp_path, low, high)
    (problem,) = found(chapters, stored_runs(chapters, VALUES))
    assert problem.startswith(f"{NAME}: 'the weight': the range {low}–{high} does not hold 4.788–5.212")


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [(0.9, 1, [0.98, 1, 1, 0.99, 1, 1]), (0, 0.5, [0, 0.1, 0, 0]), (5, 12, [11, 12, 10]), (1.5, 500, [39, 85, 57])],
)
def test_no_margin_is_needed_where_a_share_or_a_count_ends_or_a_ratio_is_small(tmp_path: Path, low, high, values):
    chapters = chapter_with(tmp_path, low, high)
    assert not [each for each in found(chapters, stored_runs(chapters, values, without=-7)) if "does not hold" in each]


def test_a_ratio_that_varies_by_as_much_as_itself_is_spread_by_factors():
    low, high = spread([1.0, 10.0, 100.0], as_ratio=True)
    assert low == pytest.approx(0.01) and high == pytest.approx(10_000)
    assert spread([4.0, 5.0, 6.0], as_ratio=True) == spread([4.0, 5.0, 6.0], as_ratio=False) == (2.0, 8.0)


def test_a_range_that_holds_without_training_proves_nothing(tmp_path: Path):
    chapters = chapter_with(tmp_path, 0, 100)
    (problem,) = found(chapters, stored_runs(chapters, VALUES))
    assert "also holds 0.5, the value without any training" in problem
    (tmp_path / "ranges" / "not_about_training.json").write_text('{"98": ["the weight"]}')
    assert found(chapters, tmp_path / "ranges") == []


def test_what_training_does_not_move_may_pass_without_it(tmp_path: Path):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    assert found(chapters, stored_runs(chapters, VALUES, without=VALUES[0])) == []


def test_missing_old_and_too_few_runs_name_chapter_and_command(tmp_path: Path):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    for stored in (
        tmp_path / "nothing",
        stored_runs(chapters, VALUES, code="older"),
        stored_runs(chapters, VALUES[:2]),
    ):
        (problem,) = found(chapters, stored)
        assert problem.startswith(f"{NAME}: ") and problem.endswith("Run: aigc ranges 98"), problem
    lines = (stored_runs(chapters, VALUES) / "98.jsonl").read_text().splitlines()
    (tmp_path / "ranges" / "98.jsonl").write_text("\n".join(lines[:-1]))
    assert found(chapters, tmp_path / "ranges") == [f"{NAME}: the run without training is missing. Run: aigc ranges 98"]


def test_a_check_that_no_run_holds_is_named(tmp_path: Path):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    (problem,) = found(chapters, stored_runs(chapters, VALUES, values=(("renamed", 5.0),)))
    assert problem == f"{NAME}: 'the weight' is missing in {RUNS} stored runs. Run: aigc ranges 98"


def test_an_exact_check_that_failed_on_some_machine_is_named(tmp_path: Path):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    (problem,) = found(chapters, stored_runs(chapters, VALUES, unequal=("kept",)))
    assert "'kept' differs between machines" in problem


def test_another_range_print_or_address_needs_no_new_run_and_another_cell_does(tmp_path: Path):
    first = fingerprint(read_chapter(find_chapter("98", chapter_with(tmp_path, 4.7, 5.3))))
    chapters = chapter_with(tmp_path, 4.0, 5.9)
    path = chapters / "source" / f"{NAME}.py"
    assert fingerprint(read_chapter(path)) == first
    path.write_text(path.read_text().replace('print("loss", weight.item())\n', 'print(weight)\nprint("at first")\n'))
    assert fingerprint(read_chapter(path)) == first
    path.write_text(path.read_text().replace("import torch\n", "import torch\nfrom aigc_helpers import paths\n"))
    assert fingerprint(read_chapter(path)) == first
    path.write_text(path.read_text().replace("range(3)", "range(4)"))
    assert fingerprint(read_chapter(path)) != first


@pytest.mark.parametrize(
    ("line", "on_embedded"),
    [
        ("rate = 2.0 if full_profile else 1.0", "rate = 1.0"),
        ("rate = 1.0 if not full_profile else 2.0", "rate = 1.0"),
        ("if full_profile:\n    rate = 2.0", ""),
        ("if full_profile:\n    rate = 2.0\nelse:\n    rate = 1.0\n    more = 2", "rate = 1.0\nmore = 2"),
        ("if not full_profile and weight > 1:\n    rate = 1.0", "if weight > 1:\n    rate = 1.0"),
        ("small = full_profile or weight < 1 or weight > 3", "small = weight < 1 or weight > 3"),
        ("seen = weight.to(current_profile().device)", "seen = weight"),
        ("if weight > 1 and full_profile:\n    rate = 2.0", "if weight > 1 and full_profile:\n    rate = 3.0"),
    ],
)
def test_what_only_the_full_profile_runs_needs_no_new_run(tmp_path: Path, line: str, on_embedded: str):
    path = chapter_with(tmp_path, 4.7, 5.3) / "source" / f"{NAME}.py"
    source = path.read_text()

    def fingerprint_with(line: str) -> str:
        path.write_text(source.replace("for _ in range(3):", f"{line}\nfor _ in range(3):"))
        return fingerprint(read_chapter(path))

    assert fingerprint_with(line) == fingerprint_with(on_embedded)
    other = line.replace("full_profile", "other").replace("().device", "().dtype")
    assert fingerprint_with(other) != fingerprint_with(on_embedded)


def test_the_stored_runs_are_those_of_the_code_on_every_python(tmp_path: Path):
    # Code whose syntax tree looks otherwise on 3.11, 3.12 and 3.13; the hash is what 3.11's ast.dump gave.
    code = """
def shown(*numbers, width: int = 8):
    return [f"{number:{width}}|" for number in numbers] or ["", None]

class Kept:
    pass

expect(shown(), LOW, HIGH, "the weight")
"""
    path = chapter_with(tmp_path, 4.7, 5.3) / "source" / f"{NAME}.py"
    before, _, after = path.read_text().partition("torch.manual_seed(0)")
    path.write_text(before + code + after)
    assert fingerprint(read_chapter(path)) == "c130eccc18ee9d6a"


@pytest.mark.parametrize("damage", ["", '{"seeds": 0', '{"seeds": 0}', "[]"])
def test_a_damaged_line_is_named_and_the_advice_mends_it(tmp_path: Path, damage: str):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    stored = stored_runs(chapters, VALUES)
    lines = (stored / "98.jsonl").read_text().splitlines()
    (stored / "98.jsonl").write_text("\n".join([lines[0], damage, *lines[1:]]))
    with pytest.raises(ReaderError, match=r"98\.jsonl, line 2 is no stored run .* Delete that line, then run: aigc"):
        found(chapters, stored)
    (stored / "98.jsonl").write_text("\n".join(lines))
    assert found(chapters, stored) == []


def test_a_damaged_list_of_exemptions_is_named(tmp_path: Path):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    stored = stored_runs(chapters, VALUES)
    (stored / "not_about_training.json").write_text("{")
    with pytest.raises(ReaderError, match=r"not_about_training\.json is damaged .* git checkout -- data"):
        found(chapters, stored)


@pytest.mark.parametrize("notebook", [None, "nothing", '{"cells": 3}', '{"cells": []}', '{"cells": [1]}'])
def test_a_notebook_that_shows_fewer_ranges_than_its_source_asks_for_is_named(tmp_path: Path, notebook: str | None):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    path = chapters / f"{NAME}.ipynb"
    path.unlink()
    if notebook is not None:
        path.write_text(notebook, encoding="utf-8")
    (problem,) = found(chapters, stored_runs(chapters, VALUES))
    assert problem.startswith(f"{NAME}: its notebook is missing, damaged or older than its source: it shows 0 ranges")
    assert problem.endswith("Run: aigc build 98")
    build(folder=chapters, execute=False)  # The advice: no notebook, however damaged, stops the builder.
    assert len(json.loads(path.read_text(encoding="utf-8"))["cells"]) > 1


def test_runs_that_are_missing_are_not_called_old(tmp_path: Path):
    chapters = chapter_with(tmp_path, 4.7, 5.3)
    (problem,) = found(chapters, tmp_path / "nothing stored")
    assert "0 runs are stored for its ranges (3 are needed)" in problem


@pytest.mark.parametrize("runs", ["0", "-1", "six"])
def test_runs_are_a_whole_number_of_at_least_one(runs: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["ranges", "98", f"--runs={runs}"])
    assert stopped.value.code == 2 and "no whole number of at least 1" in capsys.readouterr().err


def test_equal_labels_are_counted():
    assert unique_labels(["a", "b", "a"]) == ["a", "b", "a (2)"]


@pytest.mark.slow
def test_a_chapter_is_measured_with_other_seeds_and_threads_and_once_without_training(tmp_path: Path):
    chapters, stored = chapter_with(tmp_path, 4.9, 5.1, execute=True), tmp_path / "ranges"
    assert [each.label for each in shown_ranges(nbformat.read(chapters / f"{NAME}.ipynb", as_version=4))] == [
        "the weight"
    ]
    runs = [run for _, run in measure_ranges(None, 3, chapters, stored)]
    assert [(run.plan.seeds, run.plan.threads, run.plan.trained) for run in runs] == [
        (0, 1, True),
        (2000, 1, True),
        (1000, 2, True),
        (0, 1, False),
    ]
    values = [run.values[0][1] for run in runs]
    assert len(set(values)) == 4 and all(4.9 < value < 5.1 for value in values[:3]) and values[3] < 1
    kept = current_runs(read_chapter(find_chapter("98", chapters)), stored)
    assert set(kept) == set(runs) and len(kept) == len(runs)
    assert list(measure_ranges(None, 3, chapters, stored)) == []  # nothing is run twice


def test_the_command_says_what_is_wrong(tmp_path: Path):
    command = [sys.executable, "-m", "aigc_helpers.cli", "ranges", "77", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and "there is no chapter" in done.stderr and "Traceback" not in done.stderr

"""One source gives two notebooks, always the same bytes, and nothing that differs from machine to machine.

A notebook that changes on every build hides real changes in noise; one that stores widget state shows as invalid on
GitHub; one whose languages drift apart is two workbooks to maintain.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.publishing import builder
from aigc_helpers.publishing.builder import assemble, build, check
from aigc_helpers.publishing.source import find_chapter, read_chapter, solved_source, stub_source

NAME = "98_miniature"


@pytest.fixture
def stored(built_miniature: Path, tmp_path: Path) -> Path:
    """Return a copy of the built miniature that a test may spoil."""
    return Path(shutil.copytree(built_miniature, tmp_path / "copy"))


def notebook(folder: Path, language: str = "en") -> nbformat.NotebookNode:
    return nbformat.read(builder.notebook_file(folder, NAME, language), as_version=4)


def texts(folder: Path) -> list[bytes]:
    return [builder.notebook_file(folder, NAME, language).read_bytes() for language in ("en", "zh")]


def edit_source(folder: Path, old: str, new: str) -> None:
    path = folder / "source" / f"{NAME}.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def edit_notebook(folder: Path, language: str, change) -> None:
    path = builder.notebook_file(folder, NAME, language)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def no_kernel(*arguments: object) -> None:
    raise AssertionError("a kernel was started")


# --- the source ------------------------------------------------------------------------------------------------


def test_a_chapter_is_read_with_its_titles_and_line_numbers(miniature: Path):
    chapter = read_chapter(miniature / "source" / f"{NAME}.py")
    assert (chapter.number, chapter.name) == ("98", NAME)
    assert chapter.titles == {"en": "A miniature", "zh": "微型章节"}
    assert [cell.line for cell in chapter.cells][:3] == [1, 9, 18]
    assert "# cat is no command here" in chapter.code_cells[0].source


@pytest.mark.parametrize("name", ["98", NAME])
def test_a_chapter_is_found_by_number_or_name(miniature: Path, name: str):
    assert find_chapter(name, miniature).stem == NAME


def test_an_unknown_chapter_names_the_valid_ones_nearest_first(miniature: Path):
    (miniature / "source" / "01_other.py").write_text("# %%\n1\n", encoding="utf-8")
    with pytest.raises(UnknownNameError, match=f"'98_mini'.*Valid: {NAME}, 01_other"):
        find_chapter("98_mini", miniature)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('# %% [markdown] lang="zh"\n# ## 试一试\n', "", r"line 42: the English block '## Try it' has no Chinese"),
        ('# %% [markdown] lang="en"\n# ## Try it\n', "", r"line 43: this Chinese block has no English"),
        ('# %% [markdown] lang="en"\n# ## Try it\n', "# %% [markdown]\n# ## Try it\n", "line 42: .*which language"),
        ('tags=["panel"]', 'tags=["pannel"]', "line 24: there is no cell tag 'pannel'. Valid: panel"),
        ("    # end solution\n", "", "line 53: an exercise needs a solution"),
        ("# begin solution", "# begin solutions", "line 53: an exercise needs a solution"),
        ('tags=["exercise"]', "", "line 53: a solution region"),
        ('check_exercise("98-1", answer)', "", "line 53: .*check_exercise"),
        ("{{badge}}", "{{bagde}}", "line 1: unknown placeholder {{bagde}}"),
    ],
)
def test_a_fault_in_a_source_is_named_with_its_line(miniature: Path, old: str, new: str, complaint: str):
    edit_source(miniature, old, new)
    with pytest.raises(ReaderError, match=complaint):
        read_chapter(miniature / "source" / f"{NAME}.py")


def test_a_source_that_is_no_text_is_a_clear_error(miniature: Path):
    path = miniature / "source" / f"{NAME}.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReaderError, match="not a jupytext percent file"):
        read_chapter(path)


def test_solution_and_stub_are_valid_code(miniature: Path):
    chapter = read_chapter(miniature / "source" / f"{NAME}.py")
    solved, stub = solved_source(chapter, 0), stub_source(chapter.exercise_cells[0])
    assert "    answer = 42\n\ncheck_exercise" in solved and "solution" not in solved
    assert "    ...  # your code here / 在这里写代码\n\ncheck_exercise" in stub and "42" not in stub
    other = stub_source(chapter.exercise_cells[0], "answer = 7\nanswer += 1")
    assert "    answer = 7\n    answer += 1\n\ncheck" in other
    for source in (solved, stub, other):
        compile(source, "cell", "exec")


# --- assembling ------------------------------------------------------------------------------------------------


def test_cell_ids_are_valid_unique_stable_and_shared_by_the_languages(miniature: Path):
    chapter = read_chapter(miniature / "source" / f"{NAME}.py")
    english, chinese = assemble(chapter, "en"), assemble(chapter, "zh")
    ids = [cell["id"] for cell in english["cells"]]
    assert ids == [cell["id"] for cell in chinese["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each) for each in ids)
    nbformat.validate(english)
    # A new cell leaves the others' ids alone, so that a diff shows one new cell.
    edit_source(miniature, "# %%\n1 + 1\n", "# %%\n2 + 2\n\n# %%\n1 + 1\n")
    after = [cell["id"] for cell in assemble(read_chapter(chapter.path), "en")["cells"]]
    assert [each for each in after if each in ids] == ids


def test_placeholders_and_the_setup_cell_are_filled_in(miniature: Path):
    edit_source(miniature, "# %%\n1 + 1\n\n# %%\n1 + 1\n", '# %% tags=["setup"]\n')
    chapter = read_chapter(miniature / "source" / f"{NAME}.py")
    english, chinese = assemble(chapter, "en"), assemble(chapter, "zh")
    assert f"/chapters/{NAME}.ipynb" in english["cells"][0]["source"]
    assert f"/chapters/zh/{NAME}.ipynb" in chinese["cells"][0]["source"]
    assert "prepare()" in english["cells"][2]["source"]


# --- building --------------------------------------------------------------------------------------------------


def test_a_rebuild_gives_the_same_bytes_without_executing(stored: Path, monkeypatch: pytest.MonkeyPatch):
    before = texts(stored)
    monkeypatch.setattr(builder, "execute_for_storing", no_kernel)
    assert build(folder=stored) == [builder.Built(NAME, executed=False, changed=False)]
    assert texts(stored) == before
    assert check(folder=stored) == []


def test_execution_again_gives_the_same_bytes(stored: Path):
    before = texts(stored)
    assert build(["98"], execute=True, folder=stored) == [builder.Built(NAME, executed=True, changed=False)]
    assert texts(stored) == before


def test_changed_prose_keeps_the_outputs_and_changed_code_does_not(stored: Path, monkeypatch: pytest.MonkeyPatch):
    executed: list[str] = []
    monkeypatch.setattr(builder, "execute_for_storing", lambda chapter, *others: executed.append(chapter.name))
    edit_source(stored, "## 试一试", "## 动手试一试")
    build(folder=stored)
    assert executed == [] and check(folder=stored) == []
    edit_source(stored, "1 + 1", "1 + 2")
    build(folder=stored)
    assert executed == [NAME]


def test_outputs_hold_nothing_of_this_machine_or_this_run(built_miniature: Path):
    built = notebook(built_miniature)
    code = [cell for cell in built["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert code[0]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "✓ first: 1\n✓ second: 2\n"}]
    assert [output["output_type"] for output in code[3]["outputs"]] == ["stream"], "the panel's view was stored"
    assert code[4]["outputs"][0]["metadata"]["image/png"]["alt"] == "a white pixel"
    assert code[5]["outputs"][0]["evalue"] == "✗ shown on purpose, from …/somewhere"
    assert code[-1]["outputs"][0]["text"] == "○ 98-1 None\n"
    raw = texts(built_miniature)[0].decode()
    for unwanted in (str(Path.home()) + "/", "\\u001b", '"widgets"', "noise of a progress bar\\n", "iopub"):
        assert unwanted not in raw


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("1 + 1", "one + 1", r"the cell that begins 'one \+ 1' failed with NameError: name 'one' is not defined"),
        ("raise AssertionError(", "print(", "tagged raises-exception, but nothing was raised"),
        ("100%|##| noise", "noise", "can do nothing about this line on stderr: noise of a progress bar"),
    ],
)
def test_a_failing_cell_is_named_and_the_older_notebooks_stay(stored: Path, old: str, new: str, complaint: str):
    before = texts(stored)
    edit_source(stored, old, new)
    with pytest.raises(ReaderError, match=f"{NAME}.py: .*{complaint}"):
        build(folder=stored)
    assert texts(stored) == before


# --- checking --------------------------------------------------------------------------------------------------


def test_missing_and_unexecuted_notebooks_are_reported(miniature: Path):
    assert check(folder=miniature) == [
        f"chapters/{NAME}.ipynb is missing. Run: aigc build 98",
        f"chapters/zh/{NAME}.ipynb is missing. Run: aigc build 98",
    ]
    build(folder=miniature, execute=False)
    problems = check(folder=miniature)
    assert len(problems) == 2 and all("no execution count" in problem for problem in problems)


def test_a_source_without_a_language_and_a_stray_notebook_are_reported(miniature: Path):
    edit_source(miniature, '# %% [markdown] lang="zh"\n# ## 试一试\n', "")
    (miniature / "zh").mkdir()
    (miniature / "zh" / "07_gone.ipynb").write_text("{}", encoding="utf-8")
    problems = check(folder=miniature)
    assert "has no Chinese block" in problems[0]
    assert problems[1].startswith("chapters/zh/07_gone.ipynb has no source")


def change_code(content: dict) -> None:
    content["cells"][2]["source"] = ["1 + 3"]


def store_widgets(content: dict) -> None:
    content["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}


def store_view(content: dict) -> None:
    view = {"output_type": "display_data", "metadata": {}, "data": {builder.WIDGET_VIEW: {"model_id": "1"}}}
    content["cells"][4]["outputs"].append(view)


def store_stderr(content: dict) -> None:
    content["cells"][1]["outputs"].append({"output_type": "stream", "name": "stderr", "text": ["100%"]})


def change_output(content: dict) -> None:
    content["cells"][1]["outputs"][0]["text"] = ["✓ first: 2\n"]


def drop_count(content: dict) -> None:
    content["cells"][1]["execution_count"] = None


def drop_cell(content: dict) -> None:
    del content["cells"][-1]


@pytest.mark.parametrize(
    ("language", "change", "complaint"),
    [
        ("en", change_code, r"cell 3 has another source \(the cell that begins '1 \+ 1'\)"),
        ("zh", change_code, r"the languages differ in the source of the cell that begins '1 \+ 3'|zh/.*cell 3 has"),
        ("en", store_widgets, "stores widget state"),
        ("zh", store_view, "stores widget state"),
        ("en", store_stderr, "its outputs are not as the builder leaves them"),
        ("zh", change_output, "the languages differ in the outputs of the cell that begins 'import os'"),
        ("en", drop_count, "no execution count"),
        ("en", drop_cell, "it has 9 cells instead of 10"),
    ],
)
def test_a_notebook_that_is_not_its_sources_is_reported(stored: Path, language: str, change, complaint: str):
    edit_notebook(stored, language, change)
    problems = check(folder=stored)
    assert any(re.search(complaint, problem) for problem in problems), problems
    if change is store_stderr:  # someone ran the notebook and saved it: a build cleans it without executing
        build(folder=stored, execute=False)
        assert check(folder=stored) == []


def test_paths_are_replaced_as_whole_folders_only():
    output = {"output_type": "stream", "name": "stdout", "text": "/home/me/x /home/media /mnt/home/me file:///home/me"}
    cleaned = builder._without_paths_and_colours(output, ["/home/me"])
    assert cleaned["text"] == "…/x /home/media /mnt/home/me file://…"

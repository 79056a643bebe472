"""Every chapter that has models of its own on the full profile runs there from its first cell to its last.

Colab users run these cells, and nobody else: stored notebooks and nbval know the embedded profile alone. Here a hub on
127.0.0.1 serves small random stand-ins under the real names, in the real formats, and nothing in a chapter knows it.
What a chapter measures means nothing then, and its ranges do not bind on the full profile; its equalities do.

A GPU computes in half precision. So chapters for which that makes a difference run a second time in bfloat16, which the
CPU knows, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from full_profile_lane import (
    FETCHED,
    IN_THE_DEVICES_FORMAT,
    copy_book,
    environment_of,
    make_repositories,
    serving,
    shorten,
)
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from stand_in_files import Files
from stand_in_hub import HubOfRepositories
from stand_in_text_models import BERT

from aigc_helpers.notebook.loopback_server import Answer, Request
from aigc_helpers.publishing.builder import assemble, execute_and_judge, new_client
from aigc_helpers.publishing.source import Chapter, chapter_paths, find_chapter, read_chapter
from aigc_helpers.store import load_catalog

# Chapter 10 asks for Stable Diffusion 1.5 only once a reader has named a LoRA file of theirs.
NEEDS_A_READERS_FILE = {"10"}

CHAPTERS = [read_chapter(path) for path in chapter_paths()]
RUNS = [(number, "float32") for number in FETCHED] + [(number, "bfloat16") for number in IN_THE_DEVICES_FORMAT]


@pytest.fixture(scope="session")
def repositories() -> dict[str, Files]:
    return make_repositories()


@pytest.fixture(scope="session")
def book(repositories: dict[str, Files], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the workbook whose catalog promises the stand-ins' sizes and hashes; all else is as it is."""
    return copy_book(tmp_path_factory.mktemp("book"), repositories)


@pytest.fixture
def hub(repositories: dict[str, Files]) -> Iterator[HubOfRepositories]:
    with serving(repositories) as served:
        yield served


def computing_in(number_format: str, notebook: NotebookNode) -> None:
    """Have the notebook's frozen weights and its mixed precision in ``number_format``, as a GPU would; on the CPU."""
    lines = ["import aigc_helpers.profile", f"found = ('cpu', {number_format!r})"]
    lines.append("aigc_helpers.profile._device_and_dtype = lambda: found")
    notebook.cells.insert(0, new_code_cell("\n".join(lines)))


def ending_with(text: str, notebook: NotebookNode) -> None:
    """Leave out, in place, what comes after the first code cell that holds ``text``."""
    last = next(n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code" and text in cell.source)
    del notebook.cells[last + 1 :]


def fault_of(notebook: NotebookNode, hub: HubOfRepositories, book: Path, home: Path, profile: str) -> str | None:
    """Execute the notebook on ``profile``, whose models ``hub`` serves; return why it failed, or None."""
    environment = environment_of(hub, book, home, profile) | {"CUDA_VISIBLE_DEVICES": ""}
    return execute_and_judge(new_client(notebook, book / "chapters"), environment)


def run_on_the_full_profile(
    chapter: Chapter, hub: HubOfRepositories, book: Path, home: Path, number_format: str = "float32"
) -> None:
    """Execute the chapter's notebook as a reader finds it: with unsolved exercises, panels and all.

    Raises:
        AssertionError: a cell failed that is not meant to; the message names chapter and cell.
    """
    notebook = assemble(chapter, "en")
    shorten(chapter.number, notebook)
    computing_in(number_format, notebook)
    fault = fault_of(notebook, hub, book, home, "full")
    assert fault is None, f"{chapter.name}: {fault}"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "number_format"), RUNS)
def test_the_chapter_runs_on_the_full_profile(
    number: str, number_format: str, hub: HubOfRepositories, book: Path, tmp_path: Path
):
    chapter = read_chapter(find_chapter(number))
    run_on_the_full_profile(chapter, hub, book, tmp_path, number_format)
    fetched = hub.fetched()
    assert set(fetched) == set(FETCHED[number])
    for repository, files in FETCHED[number].items():
        assert files <= fetched[repository]
        served = hub.hubs[repository].commits[hub.hubs[repository].find("main")]
        # Empty is what no chapter should fetch: pickles, and weights in full precision.
        assert [name for name in fetched[repository] if served.get(name) == b""] == []


@pytest.mark.slow
def test_a_failure_names_chapter_and_cell(repositories: dict[str, Files], book: Path, tmp_path: Path):
    without_bert = {name: files for name, files in repositories.items() if name != BERT}
    chapter = read_chapter(find_chapter("05"))
    with (
        serving(without_bert) as hub,
        pytest.raises(AssertionError, match="05_lora_on_bert: the cell that begins .* failed with .* files of bert"),
    ):
        run_on_the_full_profile(chapter, hub, book, tmp_path)


@pytest.mark.slow
def test_what_fit_is_compared_with_agrees_when_the_embedded_models_are_on_a_gpu(
    hub: HubOfRepositories, book: Path, tmp_path: Path
):
    # ``fit`` computes in the device's format on either profile, and the chapter's own loop beside it does not. No other
    # check of the embedded profile is as narrow: all compare models with themselves in float32, or have a range.
    notebook = assemble(read_chapter(find_chapter("03")), "en")
    ending_with("20 losses, fit and ours", notebook)
    computing_in("bfloat16", notebook)
    assert fault_of(notebook, hub, book, tmp_path, "embedded") is None


class HubThatAsks(HubOfRepositories):
    """Has nothing for whoever does not sign in, as the hub has of a gated model."""

    def answer(self, request: Request) -> Answer:
        return Answer(status=401, headers={"X-Error-Code": "GatedRepo"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "loading"), [("05", 'install("bert")'), ("06", "base = new_base()"), ("09", "from_pretrained(folder")]
)
def test_a_cell_that_the_hub_turns_away_ends_in_what_to_accept_and_how_to_sign_in(
    number: str, loading: str, book: Path, tmp_path: Path
):
    notebook = assemble(read_chapter(find_chapter(number)), "en")
    ending_with(loading, notebook)
    with HubThatAsks(()) as hub:
        fault = fault_of(notebook, hub, book, tmp_path, "full")
        page = rf"it is gated \(401\)\. Accept its licence at {hub.address}/[\w.-]+/[\w.-]+, and sign in: hf auth login"
    assert fault is not None
    last = notebook.cells[-1].outputs[-1]
    said = last.get("text") or "\n".join(last["traceback"])
    assert re.search(page, said), said


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_whatever_computes_in_the_devices_format_runs_in_half_precision(chapter: Chapter):
    computes = any(re.search(r"\bfit\(|current_profile\(\)\.dtype", cell.source) for cell in chapter.code_cells)
    in_the_lane = chapter.number in FETCHED
    assert (computes and in_the_lane) == (chapter.number in IN_THE_DEVICES_FORMAT)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_no_full_profile_is_left_out(chapter: Chapter):
    asks = any('current_profile().name == "full"' in cell.source for cell in chapter.code_cells)
    assert not asks or chapter.number in {*FETCHED, *NEEDS_A_READERS_FILE}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_the_other_chapters_load_the_same_on_both_profiles(chapter: Chapter):
    # On a GPU "full" is what every chapter gets: there install("sd") has nothing to give, install("bert") another model
    # than the one that was measured, and load_forms() English texts, which the poet cannot read.
    if chapter.number in FETCHED:
        pytest.skip("the lane runs it")
    on_both = {asset.name for asset in load_catalog() if asset.profile == "any"}
    for cell in chapter.code_cells:
        for call in ast.walk(ast.parse(cell.source)):
            if not isinstance(call, ast.Call) or any(keyword.arg == "profile" for keyword in call.keywords):
                continue
            name, says_which = getattr(call.func, "id", ""), len(call.args) > 1
            if name in {"install", "load_forms", "load_known_texts"} and not says_which:
                by_name = name == "install" and call.args[0].value in on_both
                assert by_name, f"{ast.unparse(call)} does not say which profile's"

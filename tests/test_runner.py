"""A run executes every chapter, writes readable copies that need no network, and says what failed.

The pages are what people without Jupyter see: one script from the web, and the page is blank behind a firewall; a
picture without alt text is nothing to a screen reader.
"""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
from bs4 import BeautifulSoup

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.paths import REPOSITORY
from aigc_helpers.publishing.pages import formula, notebook_page
from aigc_helpers.publishing.runner import ChapterResult, Execution, closing_table, run

pytestmark = pytest.mark.slow

NAME = "98_miniature"
FAILING = """\
# %%
from aigc_helpers.notebook import expect_equal

print("✗ poet: it has no UNet")
expect_equal(2, 2, "two")

# %%
raise AssertionError("✗ accuracy: 0.5 is outside 0.8–0.9")

# %%
print("✓ after")
"""


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory, built_miniature: Path):
    """Run a failing chapter 02, the miniature, and the two together in a fresh build folder."""
    folder = tmp_path_factory.mktemp("run")
    chapters = Path(shutil.copytree(built_miniature, folder / "chapters"))
    (chapters / "source" / "02_failing.py").write_text(FAILING, encoding="utf-8")
    return list(run(["98", "02", NAME], folder / "build", chapters)), folder / "build"


def soup_of(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def fetched(soup: BeautifulSoup) -> list[str]:
    """Return every address that a browser would load without being asked."""
    attributes = ("src", "srcset", "data", "poster", "action")
    addresses = [element[name] for name in attributes for element in soup.select(f"[{name}]")]
    addresses += [element.get("href", "") for element in soup.select("link, base")]
    styles = " ".join([style.get_text() for style in soup.select("style")])
    addresses += re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", styles)
    return [address for address in addresses if not address.startswith("data:")]


def test_each_chapter_is_run_once_in_the_order_of_the_numbers(run_once):
    results, _ = run_once
    assert [result.chapter for result in results] == ["02_failing", NAME]


def test_a_failing_chapter_is_named_and_does_not_stop_the_others(run_once):
    (failing, miniature), _ = run_once
    assert not failing.passed
    assert failing.execution.error.startswith("the cell that begins 'raise AssertionError(")
    assert failing.execution.error.endswith("failed with AssertionError: ✗ accuracy: 0.5 is outside 0.8–0.9")
    assert miniature.passed


def test_only_checks_count_as_checks_and_what_a_program_prints_does_not(run_once):
    failing, miniature = run_once[0]
    assert [check["label"] for check in failing.execution.checks] == ["two"]
    assert miniature.execution.checks == ()


def test_time_and_memory_are_those_of_the_kernel(run_once):
    for result in run_once[0]:
        assert 0.1 < result.execution.seconds < 120
        assert 20 < result.execution.peak_memory < 2000


def test_executed_copies_are_written_up_to_the_failure(run_once):
    _, build_folder = run_once
    for inside in ("", "zh/"):
        cells = nbformat.read(build_folder / f"{inside}02_failing.ipynb", as_version=4)["cells"]
        assert [cell["execution_count"] for cell in cells] == [1, 2, None]
        assert cells[1]["outputs"][0]["output_type"] == "error"


def test_copies_and_stored_notebooks_are_the_same_and_clean(run_once, built_miniature: Path):
    _, build_folder = run_once
    for inside in (f"{NAME}.ipynb", f"zh/{NAME}.ipynb"):
        assert (build_folder / inside).read_bytes() == (built_miniature / inside).read_bytes()


@pytest.mark.parametrize("page", [f"{NAME}.html", f"zh/{NAME}.html", "02_failing.html", "index.html"])
def test_a_page_fetches_nothing_and_holds_no_script(run_once, page: str):
    soup = soup_of(run_once[1] / page)
    assert fetched(soup) == []
    assert soup.select("script, iframe, object, embed") == []
    text = str(soup)
    for host in ("cdnjs", "jsdelivr", "unpkg", "mathjax", "require.js", "jquery", "colab-badge.svg"):
        assert host not in text.lower()


@pytest.mark.parametrize(("page", "language"), [(f"{NAME}.html", "en"), (f"zh/{NAME}.html", "zh-Hans")])
def test_a_page_says_its_language_and_title(run_once, page: str, language: str):
    soup = soup_of(run_once[1] / page)
    assert soup.html["lang"] == language
    assert soup.title.get_text() == {"en": "A miniature", "zh-Hans": "微型章节"}[language]
    assert soup.h1 is not None


def test_every_picture_on_a_page_is_embedded_with_its_alt_text(run_once):
    images = soup_of(run_once[1] / f"{NAME}.html").select("img")
    assert [image["alt"] for image in images] == [r"\Delta W = \frac{\alpha}{r} BA", "a white pixel"]
    assert all(image["src"].startswith("data:image/") for image in images)


def test_badges_become_words_and_links_between_chapters_lead_to_pages(run_once):
    links = {link.get_text(): link["href"] for link in soup_of(run_once[1] / f"{NAME}.html").select("main a")}
    assert links["the other"] == "97_other.html"
    assert links["Open in Colab"].startswith("https://colab.research.google.com/github/")


def test_the_index_links_every_page_that_is_there(run_once):
    _, build_folder = run_once
    links = [link["href"] for link in soup_of(build_folder / "index.html").select("a")]
    assert links == ["02_failing.html", "zh/02_failing.html", f"{NAME}.html", f"zh/{NAME}.html"]
    assert all((build_folder / link).is_file() for link in links)


def test_one_progress_line_goes_to_stderr(miniature: Path, tmp_path: Path, capfd: pytest.CaptureFixture):
    # A kernel may still complain while it shuts down; that is no business of the progress line.
    source = "# %%\nimport atexit, os\n\n# %%\nquiet = atexit.register(os.write, 2, b'noise')\n"
    (miniature / "source" / f"{NAME}.py").write_text(source, encoding="utf-8")
    list(run(None, tmp_path / "build", miniature))
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = [line.split("\r")[-1] for line in captured.err.split("\n") if line.strip()]
    assert len(lines) == 1 and re.match(r"100%.*2/2", lines[0]), captured.err


def test_an_unknown_chapter_runs_nothing(miniature: Path, tmp_path: Path):
    with pytest.raises(UnknownNameError):
        list(run(["98", "77"], tmp_path / "build", miniature))
    assert not (tmp_path / "build").exists()


def source(folder: Path, text: str) -> None:
    (folder / "source" / f"{NAME}.py").write_text(text, encoding="utf-8")


def test_a_dead_kernel_is_an_error_of_its_chapter(miniature: Path, tmp_path: Path):
    source(miniature, "# %%\nimport os\nos.write(2, b'out of memory\\n')\nos._exit(1)\n")
    (result,) = run(None, tmp_path / "build", miniature)
    assert "died" in result.execution.error.lower() and "out of memory" in result.execution.error
    for page, said in (
        (f"{NAME}.html", "This chapter stopped before its end:"),
        (f"zh/{NAME}.html", "本章没有运行完："),
    ):
        stopped = soup_of(tmp_path / "build" / page).select_one(".stopped").get_text()
        assert stopped.startswith(said) and "out of memory" in stopped


def test_a_cell_that_is_meant_to_raise_and_does_not_fails_its_chapter(miniature: Path, tmp_path: Path):
    source(miniature, '# %% tags=["raises-exception"]\n1 + 1\n')
    (result,) = run(None, tmp_path / "build", miniature)
    assert result.execution.error == "the cell that begins '1 + 1' is tagged raises-exception, but nothing was raised"


def test_a_full_disk_ends_the_run_with_a_sentence_and_keeps_what_was_finished(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source(miniature, "# %%\n1 + 1\n")
    (miniature / "source" / "99_last.py").write_text("# %%\n2 + 2\n", encoding="utf-8")
    write = Path.write_text

    def no_room_for_the_last(path: Path, *arguments, **options):
        if "99_last" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", no_room_for_the_last)
    results = run(None, tmp_path / "build", miniature)
    assert next(results).passed
    assert next(results).chapter == "99_last"  # It has run, and is in the table.
    with pytest.raises(ReaderError, match="The disk is full"):
        next(results)
    assert sorted(path.name for path in (tmp_path / "build").glob("*.html")) == [f"{NAME}.html", "index.html"]


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a network namespace")
def test_without_a_loopback_interface_a_sentence_says_so(miniature: Path, tmp_path: Path):
    source(miniature, "# %%\n1 + 1\n")
    script = f"""\
from pathlib import Path
from aigc_helpers.publishing.runner import run
from aigc_helpers.errors import ReaderError
try:
    list(run(None, Path({str(tmp_path / "build")!r}), Path({str(miniature)!r})))
except ReaderError as error:
    print(error)
"""
    command = ["unshare", "--net", "--map-root-user", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    if "unshare" in done.stderr:
        pytest.skip("this account may not make a network namespace")
    assert "127.0.0.1" in done.stdout and len(done.stdout.strip().splitlines()) == 1, done.stdout + done.stderr
    assert done.stderr == ""


def test_a_run_that_is_left_early_leaves_no_kernel_behind(miniature: Path, tmp_path: Path):
    mark = tmp_path / "pid"
    endless = (
        f"# %%\nimport os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    source(miniature, "# %%\nimport time\ntime.sleep(3)\n")
    (miniature / "source" / "99_endless.py").write_text(endless, encoding="utf-8")
    results = run(None, tmp_path / "build", miniature)
    next(results)
    results.close()
    assert not mark.exists() or not psutil.pid_exists(int(mark.read_text()))


def test_a_chapter_that_is_stopped_half_way_leaves_its_earlier_page(miniature: Path, tmp_path: Path):
    source(miniature, "# %%\n1 + 1\n")
    endless = miniature / "source" / "99_endless.py"
    endless.write_text("# %%\n2 + 2\n", encoding="utf-8")
    assert all(result.passed for result in run(None, tmp_path / "build", miniature))
    before = (tmp_path / "build" / "99_endless.html").read_bytes()
    endless.write_text("# %%\nprint('half')\n\n# %%\nimport time\ntime.sleep(600)\n", encoding="utf-8")
    results = run(None, tmp_path / "build", miniature)
    next(results)
    results.close()
    assert (tmp_path / "build" / "99_endless.html").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mark = tmp_path / "ran"
    source(miniature, f"# %%\nimport pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    make = Path.mkdir

    def read_only(path: Path, *arguments, **options):
        if path == tmp_path / "build":
            raise OSError(errno.EROFS, "Read-only file system")
        return make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(ReaderError, match="read-only"):
        next(run(None, tmp_path / "build", miniature))
    assert not mark.exists()


def test_chapters_that_were_asked_for_and_not_finished_are_counted():
    finished = [ChapterResult("00_start_here", Execution(1, None, (), None))]
    assert closing_table(finished, 1, asked=3).splitlines()[-1].endswith("1 of 3 passed")


def test_the_closing_table_says_how_each_chapter_went():
    passed = ({"label": "a", "passed": True}, {"label": "b", "passed": True})
    lines = closing_table(
        [
            ChapterResult("00_start_here", Execution(12.34, 512.6, passed, None)),
            ChapterResult("05_lora_on_bert", Execution(100, None, (), "the cell that begins 'x' failed with E")),
        ],
        seconds=101.2,
    ).splitlines()
    assert lines[0].split() == ["chapter", "seconds", "peak", "memory", "checks"]
    assert lines[1].split() == ["00_start_here", "12.3", "513", "MiB", "2", "ok"]
    assert lines[2].endswith("unknown       0  FAILED: the cell that begins 'x' failed with E")
    assert lines[3].split() == ["together", "101.2", "1", "of", "2", "passed"]


def test_a_formula_beyond_matplotlib_stays_readable_as_latex():
    assert formula(r"\begin{aligned} a < b \end{aligned}") == r"<code>\begin{aligned} a &lt; b \end{aligned}</code>"
    assert formula(r"\Delta W") == formula(r"\Delta W")


def test_pictures_beside_the_notebook_are_embedded_and_html_outputs_are_disarmed(tmp_path: Path):
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    hostile = '<script src="https://example.org/x.js"></script><img src="https://example.org/y.png" alt="a curve">'
    output = nbformat.v4.new_output("display_data", {"text/html": hostile})
    svg = nbformat.v4.new_output(
        "display_data", {"image/svg+xml": "<svg/>"}, metadata={"image/svg+xml": {"alt": 'a "drawing"'}}
    )
    cells = [
        nbformat.v4.new_markdown_cell("# T\n\n![drawn](drawing.svg)\n\n$$x^2$$\n\n```mermaid\na-->b\n```"),
        nbformat.v4.new_code_cell("1", outputs=[output, svg]),
    ]
    soup = BeautifulSoup(notebook_page(nbformat.v4.new_notebook(cells=cells), "T", "en", tmp_path), "html.parser")
    assert fetched(soup) == [] and soup.select("script") == []
    assert [image["alt"] for image in soup.select("img")] == ["drawn", "x^2", 'a "drawing"']
    assert "a curve" in soup.get_text()

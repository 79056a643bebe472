"""Run the book: each chapter in a kernel of its own, an executed copy and a page each, and a closing table."""

from __future__ import annotations

import html
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_helpers.book.builder import (
    assemble,
    clean,
    describe_failure,
    execute,
    in_language,
    kernel_environment,
    machine_paths,
    new_client,
    notebook_file,
    serialise,
)
from aigc_helpers.book.expect import FAILED, PASSED
from aigc_helpers.book.page import HTML_LANGUAGE, notebook_page, page
from aigc_helpers.book.source import LANGUAGES, Chapter, find_chapters, read_chapter
from aigc_helpers.files import write_text
from aigc_helpers.paths import in_checkout

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

SAMPLING_INTERVAL = 0.25  # seconds between two looks at the memory


@dataclass(frozen=True)
class ChapterResult:
    """How one chapter went.

    Attributes:
        chapter: its name, ``"05_lora_on_bert"``.
        seconds: from the start of the kernel to its last cell.
        peak_memory: the most memory that the kernel and its child processes held, in MiB; None where unknown.
        checks_passed: output lines that begin with ``✓``.
        checks_failed: output lines and error messages that begin with ``✗``.
        error: what stopped the chapter, in one line; None if it ran through.
    """

    chapter: str
    seconds: float
    peak_memory: float | None
    checks_passed: int
    checks_failed: int
    error: str | None

    @property
    def passed(self) -> bool:
        """True if every cell ran and no check failed."""
        return self.error is None and self.checks_failed == 0


def run(
    names: Iterable[str] | None = None, build_folder: Path | None = None, folder: Path | None = None
) -> list[ChapterResult]:
    """Run chapters on the embedded profile, in the order of their numbers; a failing one does not stop the others.

    Written under ``build_folder``, for each chapter and language: the executed copy (up to the failure, if there was
    one) and its page; and ``index.html``. What runs is what the sources give, which ``builder.check`` proves to be the
    stored notebooks; so a notebook in which a reader has been writing neither stops a run nor is changed by it.

    Args:
        names: numbers or names of chapters; all without.
        build_folder: the repository's ``build`` without.
        folder: the one that holds ``source/``; the repository's ``chapters`` without.

    Raises:
        UnknownNameError: one of the names is no chapter; nothing was run.
        ReaderError: a source has a fault; nothing was run. Or the build folder cannot be written.
    """
    folder = folder or in_checkout("chapters")
    build_folder = build_folder or in_checkout("build")
    chapters = [read_chapter(path) for path in find_chapters(names, folder)]
    results = []
    for chapter in chapters:
        notebook = assemble(chapter, "en")
        results.append(_run_one(chapter, notebook, folder))
        _write_copies(chapter, notebook, folder, build_folder)
        _write_index(build_folder, folder)
    return results


def closing_table(results: Sequence[ChapterResult]) -> str:
    """Return the table shown at the end: chapter, seconds, peak memory, checks passed, and what went wrong."""
    width = max([len("chapter"), *(len(result.chapter) for result in results)])
    lines = [f"{'chapter':<{width}}  {'seconds':>8}  {'peak memory':>11}  {'checks':>9}"]
    for result in results:
        memory = "unknown" if result.peak_memory is None else f"{result.peak_memory:,.0f} MiB"
        checks = f"{result.checks_passed}/{result.checks_passed + result.checks_failed}"
        verdict = "ok" if result.passed else f"FAILED: {result.error or 'a check failed'}"
        lines.append(f"{result.chapter:<{width}}  {result.seconds:>8.1f}  {memory:>11}  {checks:>9}  {verdict}")
    if len(results) > 1:
        passed = sum(result.passed for result in results)
        seconds = sum(result.seconds for result in results)
        lines.append(f"{'together':<{width}}  {seconds:>8.1f}  {'':>11}  {'':>9}  {passed} of {len(results)} passed")
    return "\n".join(lines)


def _run_one(chapter: Chapter, notebook: NotebookNode, folder: Path) -> ChapterResult:
    """Execute ``notebook`` in place with a progress line on stderr, and clean its outputs."""
    from tqdm import tqdm

    started: list[int] = []
    error_line = None
    begun = time.monotonic()
    with tqdm(total=len(chapter.code_cells), desc=chapter.name, unit="cell", file=sys.stderr, leave=True) as progress:

        def on_cell_start(cell: NotebookNode, cell_index: int) -> None:
            started.append(cell_index)

        def on_cell_executed(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
            memory.look()
            progress.update()

        client = new_client(notebook, folder, on_cell_start=on_cell_start, on_cell_executed=on_cell_executed)
        with _MemoryWatch(client) as memory:
            try:
                execute(client, kernel_environment())
            except Exception as error:  # a failed cell, a timeout, a dead kernel, or no kernel at all
                error_line = describe_failure(notebook, started, error)
    seconds = time.monotonic() - begun
    clean(notebook, machine_paths())
    passed, failed = count_checks(notebook)
    return ChapterResult(chapter.name, seconds, memory.peak, passed, failed, error_line)


def count_checks(notebook: NotebookNode) -> tuple[int, int]:
    """Return how many checks of an executed notebook passed and failed.

    A cell that is meant to fail (``raises-exception``) shows a check at work; it does not count as failed.
    """
    passed = failed = 0
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            lines = output.get("text", "").splitlines()
            passed += sum(line.startswith(PASSED) for line in lines)
            if "raises-exception" not in cell["metadata"].get("tags", ()):
                failed += sum(line.startswith(FAILED) for line in [*lines, output.get("evalue", "")])
    return passed, failed


class _MemoryWatch:
    """Looks at the memory of a client's kernel and its children until closed; ``peak`` is in MiB."""

    def __init__(self, client: NotebookClient) -> None:
        self.peak: float | None = None
        self._client = client
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(SAMPLING_INTERVAL):
            self.look()

    def look(self) -> None:
        import psutil

        provisioner = getattr(self._client.km, "provisioner", None)
        pid = getattr(provisioner, "pid", None)
        if pid is None:  # not started yet, or gone
            return
        try:
            kernel = psutil.Process(pid)
            held = sum(process.memory_info().rss for process in [kernel, *kernel.children(recursive=True)])
        except psutil.Error:  # a child ended between listing and looking
            return
        # Linux keeps the highest mark itself, so that a peak between two looks is not missed.
        self.peak = max(self.peak or 0.0, held / 2**20, _high_water_mark(pid))


def _high_water_mark(pid: int) -> float:
    """Return the most memory that a process ever held, in MiB; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _write_copies(chapter: Chapter, executed: NotebookNode, folder: Path, build_folder: Path) -> None:
    for language in LANGUAGES:
        copy = in_language(chapter, executed, language)
        source = notebook_file(folder, chapter.name, language)
        target = notebook_file(build_folder, chapter.name, language)
        write_text(target, serialise(copy))
        write_text(target.with_suffix(".html"), notebook_page(copy, chapter.titles[language], language, source.parent))


def _write_index(build_folder: Path, folder: Path) -> None:
    """Write ``index.html``: a link to every page that lies in the build folder, also from earlier runs."""
    rows = []
    for path in find_chapters(None, folder):
        chapter = None
        for language in LANGUAGES:
            target = notebook_file(build_folder, path.stem, language).with_suffix(".html")
            if target.is_file():
                chapter = chapter or read_chapter(path)
                link = target.relative_to(build_folder).as_posix()
                title = html.escape(chapter.titles[language])
                rows.append(f'<li lang="{HTML_LANGUAGE[language]}"><a href="{link}">{title}</a></li>')
    body = f"<h1>AIGC workbook / <span lang='zh-Hans'>AIGC 教程</span></h1>\n<ul>\n{chr(10).join(rows)}\n</ul>"
    write_text(build_folder / "index.html", page("AIGC workbook", "en", body))

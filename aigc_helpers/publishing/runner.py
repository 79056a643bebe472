"""Run the book: each chapter in a kernel of its own, an executed copy and a page each, and a closing table."""

from __future__ import annotations

import html
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import replacing, write_text
from aigc_helpers.notebook import RECORD_VARIABLE
from aigc_helpers.paths import in_checkout
from aigc_helpers.publishing.builder import (
    CELL_TIMEOUT,
    assemble,
    clean,
    execute_and_judge,
    in_language,
    kernel_environment,
    machine_paths,
    new_client,
    notebook_file,
    refuse_without_loopback,
    serialise,
    warnings_on_stderr,
)
from aigc_helpers.publishing.pages import HTML_LANGUAGE, TEXTS, notebook_page, page, text_page
from aigc_helpers.publishing.source import LANGUAGES, Chapter, find_chapters, read_chapter

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

SAMPLING_INTERVAL = 0.25  # seconds between two looks at the memory
MOST_AT_ONCE = 4
MEMORY_OF_A_CHAPTER = 3 * 2**30  # bytes; the hungriest takes two thirds of it
THREADS_VARIABLE = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Execution:
    """How the execution of one notebook went.

    Attributes:
        seconds: from the start of the kernel to its last cell.
        peak_memory: the most memory that the kernel and its child processes held, in MiB; None where unknown.
        checks: what ``expect`` and its siblings recorded, in their order.
        error: what stopped the chapter, in one line; None if it ran through.
        warnings: the lines that its cells wrote to stderr, progress bars aside.
    """

    seconds: float
    peak_memory: float | None
    checks: tuple[dict[str, Any], ...]
    error: str | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChapterResult:
    """How one chapter (by its name, ``"05_lora_on_bert"``) went."""

    chapter: str
    execution: Execution

    @property
    def passed(self) -> bool:
        """True if no cell raised but those that are meant to."""
        return self.execution.error is None


def run(
    names: Iterable[str] | None = None, build_folder: Path | None = None, folder: Path | None = None
) -> Iterator[ChapterResult]:
    """Run chapters on the embedded profile; yield each result in the order of the numbers, a failing one like the rest.

    Several run side by side where cores and memory allow. Written under ``build_folder``, for each chapter and
    language: the executed copy (up to the failure, if there was one) and its page; and ``index.html``. What runs is
    what the sources give, which ``builder.check`` proves to be the stored notebooks; so a notebook in which a reader
    has been writing neither stops a run nor is changed by it.

    Args:
        names: numbers or names of chapters; all without.
        build_folder: the repository's ``build`` without.
        folder: the one that holds ``source/``; the repository's ``chapters`` without.

    Raises:
        UnknownNameError: one of the names is no chapter; nothing was run.
        ReaderError: a source has a fault, this machine has no loopback interface, or the build folder cannot be
            written; nothing was run. Or the disk is full; what was finished before stays.

    Example:
        >>> for result in run(["chapter five"]):
        ...     print(result.chapter, result.passed)
        Traceback (most recent call last):
        ...
        aigc_helpers.errors.UnknownNameError: there is no chapter 'chapter five'. Valid: ...
    """
    folder = folder or in_checkout("chapters")
    build_folder = build_folder or in_checkout("build")
    chapters = [read_chapter(path) for path in find_chapters(names, folder)]
    refuse_without_loopback()
    _refuse_where_nothing_can_be_written(build_folder)
    at_once, threads = division_of_labour(len(chapters))

    def run_one(
        chapter: Chapter, progress: Callable[[], None], stop: threading.Event
    ) -> tuple[Chapter, NotebookNode, Execution]:
        notebook = assemble(chapter, "en")
        return chapter, notebook, execute_watched(notebook, folder, kernel_environment(**threads), progress, stop)

    cells = sum(len(chapter.code_cells) for chapter in chapters)
    # Written here and not where the chapter runs: one that is stopped half-way leaves its earlier page as it was.
    for chapter, notebook, execution in side_by_side(run_one, chapters, at_once, cells):
        result = ChapterResult(chapter.name, execution)
        clean(notebook, machine_paths())
        try:
            _write_copies(chapter, notebook, folder, build_folder, execution.error)
            _write_texts(build_folder, folder)
            _write_index(build_folder, folder)
        except ReaderError:
            yield result  # It has run, whatever became of its page.
            raise
        yield result


def _refuse_where_nothing_can_be_written(folder: Path) -> None:
    """Say so before the first chapter has run for a minute, not after."""
    with replacing(folder / "index.html") as unfinished:
        unfinished.write_bytes((folder / "index.html").read_bytes() if (folder / "index.html").is_file() else b"")


def division_of_labour(chapters: int) -> tuple[int, dict[str, str]]:
    """Return how many chapters run at once, and the variable that shares the cores out among their kernels.

    One kernel with both cores of a small machine leaves half of the second idle; two kernels with one each do not.
    """
    import psutil

    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1
    room = int(psutil.virtual_memory().available // MEMORY_OF_A_CHAPTER)
    at_once = max(1, min(chapters, cores, room, MOST_AT_ONCE))
    return at_once, {THREADS_VARIABLE: os.environ.get(THREADS_VARIABLE) or str(max(1, cores // at_once))}


def side_by_side(
    work: Callable[[Any, Callable[[], None], threading.Event], Any], tasks: Sequence[Any], at_once: int, cells: int
) -> Iterator[Any]:
    """Yield ``work(task, progress, stop)`` of each task in order, with one progress bar for all their cells on stderr.

    If the consumer stops early (Ctrl-C, a full disk), ``stop`` is set: running kernels end, and no further task begins.
    """
    from tqdm import tqdm

    stop = threading.Event()
    lock = threading.Lock()
    # Mebibytes of a bar make no log readable: where nobody watches, it speaks once in half a minute.
    interval = 0.5 if sys.stderr.isatty() else 30
    with (
        tqdm(total=cells, unit="cell", file=sys.stderr, mininterval=interval) as bar,
        ThreadPoolExecutor(at_once) as pool,
    ):

        def advance() -> None:
            with lock:
                bar.update()

        futures = [pool.submit(work, task, advance, stop) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        finally:
            stop.set()
            for future in futures:
                future.cancel()


def execute_watched(
    notebook: NotebookNode,
    folder: Path,
    environment: dict[str, str],
    progress: Callable[[], None],
    stop: threading.Event,
    timeout: int = CELL_TIMEOUT,
) -> Execution:
    """Execute ``notebook`` in place; whatever stops it (a cell, a timeout, a dead kernel, no kernel) becomes a line.

    Args:
        notebook: gets its outputs here.
        folder: the current one of the kernel.
        environment: the kernel's.
        progress: called after each cell.
        stop: set by whoever no longer wants the result; the kernel ends then.
        timeout: seconds for one cell.
    """
    begun = time.monotonic()

    def on_cell_executed(cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        memory.look()
        progress()

    client = new_client(notebook, folder, timeout=timeout, on_cell_executed=on_cell_executed)
    checks: tuple[dict[str, Any], ...] = ()
    with _MemoryWatch(client, stop) as memory:
        try:
            with _recorded_checks() as records:
                error_line = execute_and_judge(client, {**environment, RECORD_VARIABLE: str(records)})
                checks = _read_checks(records)
        except OSError as error:  # no room for the records
            error_line = f"the kernel did not start: {error}"
    warnings = tuple(warnings_on_stderr(notebook))
    return Execution(time.monotonic() - begun, memory.peak, checks, error_line, warnings)


@contextmanager
def _recorded_checks() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "checks.jsonl"


def _read_checks(records: Path) -> tuple[dict[str, Any], ...]:
    if not records.is_file():
        return ()
    return tuple(json.loads(line) for line in records.read_text(encoding="utf-8").splitlines())


def closing_table(results: Sequence[ChapterResult], seconds: float, asked: int | None = None) -> str:
    """Return the table shown at the end: chapter, seconds, peak memory, checks that passed, and what went wrong.

    Args:
        results: the chapters that were finished.
        seconds: how long all of it took; less than the sum where chapters ran side by side.
        asked: how many chapters were to run, where that is more than were finished.

    Example:
        >>> from aigc_helpers.publishing import ChapterResult, Execution
        >>> print(closing_table([ChapterResult("05_lora_on_bert", Execution(90.1, 1200, (), None))], 90.1))
        chapter           seconds  peak memory  checks
        05_lora_on_bert      90.1    1,200 MiB       0  ok
    """
    width = max([len("chapter"), *(len(result.chapter) for result in results)])
    lines = [f"{'chapter':<{width}}  {'seconds':>8}  {'peak memory':>11}  {'checks':>6}"]
    for result in results:
        execution = result.execution
        memory = "unknown" if execution.peak_memory is None else f"{execution.peak_memory:,.0f} MiB"
        checks = sum(check["passed"] for check in execution.checks)
        said = "ok" if result.passed else f"FAILED: {execution.error}"
        lines.append(f"{result.chapter:<{width}}  {execution.seconds:>8.1f}  {memory:>11}  {checks:>6}  {said}")
    asked = len(results) if asked is None else asked
    if asked > 1:
        passed = sum(result.passed for result in results)
        lines.append(f"{'together':<{width}}  {seconds:>8.1f}  {'':>11}  {'':>6}  {passed} of {asked} passed")
    for result in results:
        lines += [f"{result.chapter} warned: {warning}" for warning in result.execution.warnings]
    return "\n".join(lines)


class _MemoryWatch:
    """Looks at the memory of a client's kernel and its children until closed; ``peak`` is in MiB.

    Ends the kernel when ``stop`` is set: nobody waits for the rest of the chapter then.
    """

    def __init__(self, client: NotebookClient, stop: threading.Event) -> None:
        self.peak: float | None = None
        self._client = client
        self._stop = stop
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
            if self._stop.is_set():
                kernel.kill()
                return
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


def _write_copies(
    chapter: Chapter, executed: NotebookNode, folder: Path, build_folder: Path, error: str | None
) -> None:
    for language in LANGUAGES:
        copy = in_language(chapter, executed, language)
        source = notebook_file(folder, chapter.name, language)
        target = notebook_file(build_folder, chapter.name, language)
        write_text(target, serialise(copy))
        write_text(
            target.with_suffix(".html"), notebook_page(copy, chapter.titles[language], language, source.parent, error)
        )


def _write_texts(build_folder: Path, folder: Path) -> None:
    for name in TEXTS:
        source = folder / f"{name}.md"
        if source.is_file():
            write_text(build_folder / f"{name}.html", text_page(source))


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

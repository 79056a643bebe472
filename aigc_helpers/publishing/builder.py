"""From one source to two notebooks: assembled, executed once, cleaned, and checked.

The same source always gives the same bytes: cell ids come from the cells' content, the outputs of a chapter whose
code has not changed are kept, and whatever differs from run to run or machine to machine is taken out of them.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from aigc_helpers.compat import forget_kernel_at_exit
from aigc_helpers.errors import ReaderError
from aigc_helpers.files import make_folder, write_text
from aigc_helpers.paths import in_checkout
from aigc_helpers.project import repository_address
from aigc_helpers.publishing.full_profile import fill_full_profile
from aigc_helpers.publishing.repository import colab_badge, setup_cell
from aigc_helpers.publishing.source import (
    LANGUAGES,
    Chapter,
    CodeCell,
    chapter_paths,
    find_chapters,
    read_chapter,
    stub_source,
)

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

CELL_TIMEOUT = 600  # seconds; nbval is given the same in pyproject.toml
# What is stored is what everyone else gets, whatever this machine has; nbval compares it under the same conditions.
WITHOUT_NETWORK_AND_GPU = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PROGRESS_BAR = re.compile(r"\d+%\||\d+it \[|\?it/s")
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    # No version: it would differ between the Pythons that the workbook supports.
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


@dataclass(frozen=True)
class Built:
    """What ``build`` did with one chapter: ``executed``, and ``changed`` where a notebook now holds other bytes."""

    chapter: str
    executed: bool
    changed: bool


def build(
    names: Iterable[str] | None = None,
    execute: bool | None = None,
    folder: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> list[Built]:
    """Build the notebooks of both languages.

    Args:
        names: numbers or names of chapters; all without.
        execute: None executes the chapters whose code differs from the stored notebook's, True all, False none
            (a changed chapter then has no outputs, which ``check`` reports).
        folder: the one that holds ``source/`` and receives the notebooks; the repository's ``chapters`` without.
        report: called with one line before a chapter is executed, which takes minutes.

    Raises:
        UnknownNameError: one of the names is no chapter.
        ReaderError: a source has a fault, or a cell failed. That chapter's older notebooks stay as they are.

    Example:
        >>> from pathlib import Path
        >>> Path("source").mkdir()
        >>> _ = Path("source/90_mine.py").write_text('# %% [markdown] lang="en"\\n# # Mine\\n\\n'
        ...     '# %% [markdown] lang="zh"\\n# # 我的\\n\\n# %%\\n1 + 1\\n', encoding="utf-8")
        >>> build(["90"], execute=False, folder=Path())
        [Built(chapter='90_mine', executed=False, changed=True)]
        >>> sorted(path.as_posix() for path in Path().rglob("*.ipynb"))
        ['90_mine.ipynb', 'zh/90_mine.ipynb']
    """
    folder = folder or in_checkout("chapters")
    built = []
    for chapter in [read_chapter(path) for path in find_chapters(names, folder)]:
        notebook = assemble(chapter, "en")
        stored = read_notebook(notebook_file(folder, chapter.name, "en"))
        kept = execute is not True and stored is not None and copy_outputs(stored, notebook)
        clean(notebook)  # someone may have run the stored notebook and saved it
        executed = not kept and execute is not False
        if executed:
            refuse_without_loopback()
            for language in LANGUAGES:  # Before the cells have run for minutes.
                make_folder(notebook_file(folder, chapter.name, language).parent)
            if report:
                report(f"{chapter.name}: executing {len(chapter.code_cells)} code cells …")
            execute_for_storing(chapter, notebook, folder)
        built.append(Built(chapter.name, executed, _write_both(chapter, notebook, folder)))
    return built


def check(names: Iterable[str] | None = None, folder: Path | None = None) -> list[str]:
    """Return what is wrong with the stored notebooks, one sentence each; an empty list means all is well.

    Raises:
        UnknownNameError: one of the names is no chapter.

    Example:
        >>> from pathlib import Path
        >>> Path("source").mkdir()
        >>> _ = Path("source/90_mine.py").write_text('# %% [markdown] lang="en"\\n# # Mine\\n', encoding="utf-8")
        >>> check(["90"], folder=Path())
        ["source/90_mine.py, line 1: the English block '# Mine' has no Chinese block directly below it."]
    """
    folder = folder or in_checkout("chapters")
    problems = []
    for path in find_chapters(names, folder):
        try:
            chapter = read_chapter(path)
        except ReaderError as error:
            problems.append(str(error))
            continue
        problems += _problems_of(chapter, folder)
    if not names:
        sources = {path.stem for path in chapter_paths(folder)}
        for language in LANGUAGES:
            for path in sorted(notebook_file(folder, "x", language).parent.glob("*.ipynb")):
                if path.stem not in sources:
                    problems.append(f"{_short(path, folder)} has no source: delete it, or add source/{path.stem}.py.")
    return problems


def assemble(chapter: Chapter, language: str) -> NotebookNode:
    """Return one language's notebook without outputs: prose chosen, placeholders filled, solutions taken out."""
    from nbformat import v4

    cells: list[NotebookNode] = []
    seen: dict[str, int] = {}
    for cell in chapter.cells:
        if isinstance(cell, CodeCell):
            source = setup_cell() if "setup" in cell.tags else stub_source(cell)
            # The set-up cell changes with the repository's address, and must not take another id then.
            identity = "code", "setup" if "setup" in cell.tags else source
            made = v4.new_code_cell(source, metadata={"tags": list(cell.tags)} if cell.tags else {})
        else:
            identity = "markdown", cell.texts["en"]
            text = cell.texts[language].replace("{{badge}}", colab_badge(chapter.name, language))
            text = fill_full_profile(text, chapter.number, language)
            made = v4.new_markdown_cell(text.replace("{{repository}}", repository_address()))
        digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        made["id"] = f"{digest}-{seen[digest]}"
        cells.append(made)
    notebook = v4.new_notebook(cells=cells, metadata={**_METADATA, "language": language})
    notebook["nbformat_minor"] = 5  # the first that knows cell ids
    return notebook


def notebook_file(folder: Path, chapter_name: str, language: str) -> Path:
    """Return where one language's notebook lies inside ``folder``."""
    return folder / ("" if language == "en" else language) / f"{chapter_name}.ipynb"


def read_notebook(path: Path) -> NotebookNode | None:
    """Return a stored notebook, or None where there is none or it cannot be read as one."""
    import nbformat

    try:
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except (OSError, ValueError, nbformat.ValidationError, AttributeError, KeyError, TypeError):
        return None


def serialise(notebook: NotebookNode) -> str:
    """Return the notebook's text: keys sorted, one space of indentation, a newline at the end."""
    import nbformat

    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def copy_outputs(source: NotebookNode, target: NotebookNode) -> bool:
    """Copy outputs and counts from a notebook with the same code cells; tell whether that was possible.

    The set-up cells may differ: the repository's address stands in them, and no output depends on it.
    Nothing is copied unless every code cell of ``source`` has been executed.
    """
    pairs = list(zip(_code_cells(source), _code_cells(target), strict=False))
    same = len(_code_cells(source)) == len(_code_cells(target)) and all(
        old.get("execution_count") is not None
        and (old["source"] == new["source"] or "setup" in new["metadata"].get("tags", ()))
        for old, new in pairs
    )
    if same:
        for old, new in pairs:
            new["outputs"] = copy.deepcopy(old["outputs"])
            new["execution_count"] = old["execution_count"]
    return same


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def refuse_without_loopback() -> None:
    """A kernel and whoever runs it talk through 127.0.0.1; where that is missing, they wait for a minute in vain."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5):
            pass
    except OSError as error:
        raise ReaderError(
            f"this machine cannot reach itself at 127.0.0.1 ({error.strerror or error}), and Jupyter's kernels need "
            "that. Bring the loopback interface up (Linux: ip link set lo up), or let the firewall admit 127.0.0.1."
        ) from error


def new_client(
    notebook: NotebookNode,
    folder: Path,
    timeout: int = CELL_TIMEOUT,
    **hooks: Any,  # noqa: ANN401 - nbclient's own: functions that it calls with the cell
) -> NotebookClient:
    """Return an nbclient that executes ``notebook`` with ``folder`` as the current one; a failing cell stops it.

    A cell may take ``timeout`` seconds.
    """
    from nbclient import NotebookClient

    return NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=40"],  # errors only: warnings about the transport would break the progress line
        **hooks,
    )


def kernel_environment(**more: str) -> dict[str, str]:
    """Return the environment of a chapter's kernel: the embedded profile, and the package within reach."""
    paths = [str(in_checkout()), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "AIGC_PROFILE": "embedded",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        **more,
    }


def execute_and_judge(client: NotebookClient, environment: dict[str, str]) -> str | None:
    """Let ``client`` execute its notebook; return why it failed, in one line, or None.

    Whoever executes a chapter comes through here, so that all of them judge alike: see ``verdict``.
    """
    started: list[int] = []
    client.on_cell_start = lambda cell, cell_index: started.append(cell_index)
    try:
        _execute(client, environment)
    except Exception as error:  # a failed cell, a timeout, a dead kernel, or no kernel at all
        return _describe_failure(client.nb, started, error)
    return verdict(client.nb)


def _execute(client: NotebookClient, environment: dict[str, str]) -> None:
    """Let ``client`` execute its notebook; what the kernel's process writes to its own stderr stays off the terminal.

    There it would break the progress line, even where the process merely aborts while shutting down. If the kernel dies
    or does not start, the last thing it wrote is part of the error.
    """
    with TemporaryFile() as own_errors:
        try:
            client.execute(env=environment, stderr=own_errors)
        except RuntimeError as error:
            own_errors.seek(0)
            lines = own_errors.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            raise RuntimeError(f"{error} {last}".strip()) from error
        finally:
            forget_kernel_at_exit(client)


def execute_for_storing(chapter: Chapter, notebook: NotebookNode, folder: Path) -> None:
    """Execute ``notebook`` in place and clean its outputs.

    It runs offline and without a GPU.

    Raises:
        ReaderError: a cell failed, took too long or killed the kernel, one tagged ``raises-exception`` did not fail, or
            one wrote something else than a progress bar to stderr.
    """
    fault = execute_and_judge(new_client(notebook, folder), kernel_environment(**WITHOUT_NETWORK_AND_GPU))
    if fault:
        raise ReaderError(f"{chapter.path}: {fault}.")
    noise = warnings_on_stderr(notebook)
    if noise:
        raise ReaderError(f"{chapter.path}: a reader can do nothing about this line on stderr: {noise[0]}")
    clean(notebook, machine_paths())


def verdict(notebook: NotebookNode) -> str | None:
    """Return why an executed notebook failed, in one line, or None: it fails where a cell raises, and only there.

    What a program prints is no verdict: ``aigc inspect`` answers with lines that begin with ``✗``. A cell tagged
    ``raises-exception`` has to raise. This is also nbval's rule.
    """
    for cell in _code_cells(notebook):
        errors = [output for output in cell["outputs"] if output["output_type"] == "error"]
        meant = "raises-exception" in cell["metadata"].get("tags", ())
        if errors and not meant:
            return f"{_head(cell)} failed with {_first_line(f'{errors[0].ename}: {errors[0].evalue}')}"
        if meant and not errors and cell["execution_count"] is not None:
            return f"{_head(cell)} is tagged raises-exception, but nothing was raised"
    return None


def warnings_on_stderr(notebook: NotebookNode) -> list[str]:
    """Return the lines that the cells wrote to stderr, progress bars aside: each is one that worries a reader."""
    texts = [
        output["text"] for cell in _code_cells(notebook) for output in cell["outputs"] if output.get("name") == "stderr"
    ]
    lines = [line.strip() for text in texts for line in re.split(r"[\r\n]", _ANSI.sub("", text))]
    return [line for line in lines if line and not _PROGRESS_BAR.search(line)]


def _describe_failure(notebook: NotebookNode, started: Sequence[int], error: Exception) -> str:
    """Return one line: which cell failed (``started`` holds the indices of the cells begun so far), and with what."""
    from nbclient.exceptions import CellExecutionError

    what = _first_line(f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else f"{error}")
    what = what or type(error).__name__
    if not started:
        return f"the kernel did not start: {what}"
    return f"{_head(notebook['cells'][started[-1]])} failed with {what}"


def _first_line(text: str) -> str:
    lines = _ANSI.sub("", text).strip().splitlines()
    return lines[0] if lines else ""


def _head(cell: NotebookNode) -> str:
    lines = [line for line in cell["source"].splitlines() if line.strip()] or [""]
    return f"the cell that begins {lines[0].strip()[:70]!r}"


def machine_paths() -> list[str]:
    """Return the folders of this machine that no stored output may name, the longest first."""
    paths = {str(in_checkout()), str(Path.home()), *(sysconfig.get_paths()[key] for key in ("stdlib", "purelib"))}
    if sys.prefix != sys.base_prefix:
        paths.add(sys.prefix)
    return sorted((path for path in paths if len(Path(path).parts) > 1), key=len, reverse=True)


def clean(notebook: NotebookNode, paths: Sequence[str] = ()) -> None:
    """Take out of the outputs, in place, what no stored notebook should hold.

    That is: widget state and widget views (without a live kernel they show nothing, and GitHub calls a notebook with
    them invalid), stderr (progress bars differ from run to run), timings, colours, and the folders in ``paths``.
    """
    notebook["metadata"].pop("widgets", None)
    for cell in _code_cells(notebook):
        cell["metadata"].pop("execution", None)
        kept: list[NotebookNode] = []
        for output in cell["outputs"]:
            if WIDGET_VIEW in output.get("data", {}) or output.get("name") == "stderr":
                continue
            output = _without_paths_and_colours(output, paths)
            if output["output_type"] == "stream" and kept and kept[-1]["output_type"] == "stream":
                kept[-1]["text"] += output["text"]  # a progress bar stood between the two
            else:
                kept.append(output)
        cell["outputs"] = kept


def _without_paths_and_colours(output: NotebookNode, paths: Sequence[str]) -> NotebookNode:
    from nbformat import from_dict

    def cleaned(value: Any, key: str = "") -> Any:  # noqa: ANN401 (JSON)
        if isinstance(value, dict):
            return {name: cleaned(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [cleaned(inner, key) for inner in value]
        if not isinstance(value, str) or key.startswith("image/"):
            return value
        value = _ANSI.sub("", value)
        for path in paths:
            value = re.sub(r"(?<![\w.-])" + re.escape(path) + r"(?![\w.-])", "…", value)
        return value

    return from_dict(cleaned(output))


def in_language(chapter: Chapter, executed: NotebookNode, language: str) -> NotebookNode:
    """Return the notebook of one language with the outputs of ``executed``, which may have stopped half-way."""
    notebook = assemble(chapter, language)
    for old, new in zip(_code_cells(executed), _code_cells(notebook), strict=True):
        new["outputs"], new["execution_count"] = old["outputs"], old["execution_count"]
    return notebook


def _write_both(chapter: Chapter, executed: NotebookNode, folder: Path) -> bool:
    changed = False
    for language in LANGUAGES:
        path, text = notebook_file(folder, chapter.name, language), serialise(in_language(chapter, executed, language))
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
            changed = True
    return changed


def _problems_of(chapter: Chapter, folder: Path) -> list[str]:
    problems: list[str] = []
    stored = {}
    mend = f"Run: aigc build {chapter.number}"
    for language in LANGUAGES:
        path = notebook_file(folder, chapter.name, language)
        name = _short(path, folder)
        notebook = read_notebook(path)
        if notebook is None:
            problems.append(f"{name} {'is not a notebook' if path.exists() else 'is missing'}. {mend}")
            continue
        stored[language] = notebook
        if "widgets" in notebook["metadata"] or any(
            WIDGET_VIEW in output.get("data", {}) for cell in _code_cells(notebook) for output in cell["outputs"]
        ):
            problems.append(f"{name} stores widget state, with which GitHub shows it as invalid.")
        unexecuted = [cell for cell in _code_cells(notebook) if cell["execution_count"] is None]
        if unexecuted:
            problems.append(f"{name} was not executed: {_head(unexecuted[0])} has no execution count. {mend}")
        difference = _difference(assemble(chapter, language), notebook, path.read_bytes())
        if difference:
            problems.append(f"{name} is not what its source gives: {difference}. {mend}")
    if len(stored) == len(LANGUAGES):
        problems += _differences_between_languages(chapter, stored)
    return problems


def _difference(expected: NotebookNode, stored: NotebookNode, stored_bytes: bytes) -> str | None:
    """Return where a stored notebook departs from its source, or None; outputs count only if they are not clean."""
    for number, (wanted, found) in enumerate(zip(expected["cells"], stored["cells"], strict=False), 1):
        for key in ("cell_type", "source", "id", "metadata"):
            if wanted[key] != found.get(key):
                return f"cell {number} has another {key.replace('_', ' ')} ({_head(wanted)})"
    if len(expected["cells"]) != len(stored["cells"]):
        return f"it has {len(stored['cells'])} cells instead of {len(expected['cells'])}"
    for old, new in zip(_code_cells(stored), _code_cells(expected), strict=True):
        new["outputs"], new["execution_count"] = old["outputs"], old["execution_count"]
    clean(expected)
    if serialise(expected).encode() != stored_bytes:
        return "its metadata, its layout or its outputs are not as the builder leaves them"
    return None


def _differences_between_languages(chapter: Chapter, stored: dict[str, NotebookNode]) -> list[str]:
    english, chinese = (_code_cells(stored[language]) for language in LANGUAGES)
    if len(english) != len(chinese):
        return [f"{chapter.name}: {len(english)} code cells in English, {len(chinese)} in Chinese."]
    for first, second in zip(english, chinese, strict=True):
        for key in ("source", "outputs", "execution_count", "id"):
            if first.get(key) != second.get(key):
                return [f"{chapter.name}: the languages differ in the {key.replace('_', ' ')} of {_head(first)}."]
    return []


def _short(path: Path, folder: Path) -> str:
    return f"{folder.name}/{path.relative_to(folder).as_posix()}"

"""Chapter sources: one jupytext percent file per chapter, prose in two languages, code in one.

A source is a Python file in ``chapters/source/``::

    # %% [markdown] lang="en"
    # # LoRA on BERT
    # {{badge}}

    # %% [markdown] lang="zh"
    # # 在 BERT 上使用 LoRA
    # {{badge}}

    # %% tags=["setup"]

    # %% tags=["exercise", "nbval-check-output"]
    def parameters(inputs: int, outputs: int, rank: int) -> int:
        # begin solution
        return rank * (inputs + outputs)
        # end solution

    check_exercise("05-1", parameters)

Every English block stands directly above its Chinese one. The set-up cell is written by the builder. An exercise cell
hands its answer to ``check_exercise`` itself; names it binds inside the solution are bound above it, too
(``answer = None``), because a reader finds ``...`` in the solution's place.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.paths import in_checkout
from aigc_helpers.publishing import full_profile

LANGUAGES = ("en", "zh")
TAGS = (
    "setup",
    "exercise",
    "panel",
    "nbval-check-output",
    "nbval-ignore-output",
    "nbval-skip",
    "raises-exception",
)
STUB = "...  # your code here / 在这里写代码"
PLACEHOLDERS = ("{{badge}}", "{{repository}}", *full_profile.PLACEHOLDERS)

_FILE_NAME = re.compile(r"\d\d_\w+")
_REGION = re.compile(
    r"^(?P<indent>[ \t]*)# begin solution[ \t]*\n(?P<body>.*?)^[ \t]*# end solution[ \t]*$", re.DOTALL | re.MULTILINE
)
_CHECK = re.compile(r"""\bcheck_exercise\(\s*["']([^"']+)["']""")


@dataclass(frozen=True)
class MarkdownPair:
    """One block of prose: ``texts["en"]`` and ``texts["zh"]``, placeholders unfilled; ``line`` counts from 1."""

    texts: dict[str, str]
    line: int | None


@dataclass(frozen=True)
class CodeCell:
    """One code cell as the author wrote it, solutions included; ``line`` counts from 1."""

    source: str
    tags: tuple[str, ...]
    line: int | None

    @property
    def exercise(self) -> str | None:
        """The identifier that the cell hands to ``check_exercise``, such as ``"05-1"``; None if it is no exercise."""
        found = _CHECK.search(self.source)
        return found[1] if found and "exercise" in self.tags else None


@dataclass(frozen=True)
class Chapter:
    """One chapter's source.

    Attributes:
        path: the source file.
        number: two digits, ``"05"``.
        name: the file's name without its ending, ``"05_lora_on_bert"``.
        titles: the first heading of each language.
        cells: prose and code in their order.
    """

    path: Path
    number: str
    name: str
    titles: dict[str, str]
    cells: tuple[MarkdownPair | CodeCell, ...]

    @property
    def code_cells(self) -> tuple[CodeCell, ...]:
        """The code cells in their order."""
        return tuple(cell for cell in self.cells if isinstance(cell, CodeCell))

    @property
    def exercise_cells(self) -> tuple[CodeCell, ...]:
        """The cells tagged ``exercise`` in their order."""
        return tuple(cell for cell in self.code_cells if "exercise" in cell.tags)


def chapter_paths(folder: Path | None = None) -> list[Path]:
    """Return every chapter's source in the order of the numbers; ``folder`` is the one holding ``source/``."""
    found = (folder or in_checkout("chapters")).joinpath("source").glob("*.py")
    return sorted(path for path in found if _FILE_NAME.fullmatch(path.stem))


def find_chapter(number_or_name: str, folder: Path | None = None) -> Path:
    """Return the source of the chapter called ``"05"``, ``"5"`` or ``"05_lora_on_bert"``.

    Raises:
        UnknownNameError: there is none; the message lists the chapters, the likeliest first.
    """
    paths = chapter_paths(folder)
    for path in paths:
        if number_or_name in (path.stem, path.stem[:2], path.stem[:2].lstrip("0") or "0"):
            return path
    raise UnknownNameError("chapter", number_or_name, [path.stem for path in paths])


def find_chapters(names: Iterable[str] | None = None, folder: Path | None = None) -> list[Path]:
    """Return the sources called ``names``, each once, in the order of the numbers; without names, all.

    Raises:
        UnknownNameError: one of the names is no chapter.
        ReaderError: there are no chapters at all.

    Example:
        >>> [path.name[:2] for path in find_chapters(["05", "00"])]
        ['00', '05']
    """
    chosen = {find_chapter(name, folder) for name in names or ()}
    paths = [path for path in chapter_paths(folder) if not chosen or path in chosen]
    if not paths:
        raise ReaderError(f"there is no chapter in {folder or in_checkout('chapters')}/source.")
    return paths


def read_chapter(path: Path) -> Chapter:
    """Read and check one source.

    Raises:
        ReaderError: the file cannot be read, a block lacks a language, a tag or placeholder is unknown, an exercise
            has no solution or no check. The message names the file and the line.
    """
    import jupytext

    try:
        text = path.read_text(encoding="utf-8")
        # With comment_magics, jupytext takes the comment "# cat both halves" for a shell command and uncomments it.
        style = {"extension": ".py", "format_name": "percent", "comment_magics": False}
        notebook = jupytext.reads(text, fmt=style)
    except OSError as error:
        raise ReaderError(f"could not read {path}: {error.strerror}.") from error
    except Exception as error:  # jupytext passes on what yaml, nbformat and the decoder raise
        raise ReaderError(f"{path} is not a jupytext percent file: {error}") from error

    lines: list[int | None] = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith("# %%")]
    if len(lines) != len(notebook.cells):  # text before the first marker, or a marker inside a string
        lines = [None] * len(notebook.cells)

    cells: list[MarkdownPair | CodeCell] = []
    english: MarkdownPair | None = None  # waits for its Chinese half
    for index, (raw, line) in enumerate(zip(notebook.cells, lines, strict=True), 1):
        where = f"{path}, line {line}" if line else f"{path}, cell {index}"
        language = raw.metadata.get("lang") if raw.cell_type == "markdown" else None
        if english is not None and language != "zh":
            raise _missing_chinese(path, english)
        if raw.cell_type == "code":
            cells.append(_code_cell(raw, line, where))
        elif raw.cell_type != "markdown":
            raise ReaderError(f"{where}: a cell is either code or [markdown], not [{raw.cell_type}].")
        elif language not in LANGUAGES:
            raise ReaderError(f'{where}: a Markdown block says which language it is in: lang="en" or lang="zh".')
        else:
            _check_prose(raw.source, where)
            if language == "en":
                english = MarkdownPair({"en": raw.source}, line)
            elif english is None:
                raise ReaderError(f"{where}: this Chinese block has no English block directly above it.")
            else:
                cells.append(MarkdownPair({**english.texts, "zh": raw.source}, english.line))
                english = None
    if english is not None:
        raise _missing_chinese(path, english)

    titles = {language: _first_heading(cells, language) or path.stem for language in LANGUAGES}
    return Chapter(path, path.stem[:2], path.stem, titles, tuple(cells))


def _missing_chinese(path: Path, english: MarkdownPair) -> ReaderError:
    where = f"{path}, line {english.line}" if english.line else str(path)
    head = english.texts["en"].strip().splitlines()[0][:60]
    return ReaderError(f"{where}: the English block {head!r} has no Chinese block directly below it.")


def _check_prose(text: str, where: str) -> None:
    if not text.strip():
        raise ReaderError(f"{where}: this Markdown block is empty.")
    for placeholder in re.findall(r"\{\{\w+\}\}", text):
        if placeholder not in PLACEHOLDERS:
            raise ReaderError(f"{where}: unknown placeholder {placeholder}. Valid: {', '.join(PLACEHOLDERS)}.")


def _code_cell(raw: dict, line: int | None, where: str) -> CodeCell:
    cell = CodeCell(raw["source"], tuple(raw["metadata"].get("tags", ())), line)
    for tag in cell.tags:
        if tag not in TAGS:
            raise ReaderError(f"{where}: {UnknownNameError('cell tag', tag, TAGS)}")
    if "exercise" in cell.tags:
        if not _REGION.search(cell.source):
            raise ReaderError(f"{where}: an exercise needs a solution between '# begin solution' and '# end solution'.")
        if cell.exercise is None:
            raise ReaderError(f'{where}: an exercise cell hands its answer to check_exercise("05-1", answer).')
    if re.search(r"# (begin|end) solution", stub_source(cell)):
        raise ReaderError(f"{where}: a solution region is unclosed, or stands outside a cell tagged exercise.")
    return cell


def _first_heading(cells: Iterable[MarkdownPair | CodeCell], language: str) -> str | None:
    for cell in cells:
        if isinstance(cell, MarkdownPair):
            found = re.search(r"^#+ +(.+?)\s*$", cell.texts[language], re.MULTILINE)
            if found:
                return found[1]
    return None


def solved_source(chapter: Chapter, exercise_index: int) -> str:
    """Return the exercise cell (0 is the chapter's first) with the author's solution and without its two markers."""
    source = chapter.exercise_cells[exercise_index].source
    return _REGION.sub(lambda region: region["body"].removesuffix("\n"), source)


def stub_source(cell: CodeCell, replacement: str = STUB) -> str:
    """Return a cell as the reader finds it: each solution replaced by ``...``, or by another answer to try out.

    Args:
        cell: any code cell; one that is no exercise comes back as it is.
        replacement: what stands in the solution's place; it is indented as the solution's first marker is.
    """
    if "exercise" not in cell.tags:
        return cell.source
    lines = textwrap.dedent(replacement).strip("\n")
    return _REGION.sub(lambda region: textwrap.indent(lines, region["indent"]), cell.source)

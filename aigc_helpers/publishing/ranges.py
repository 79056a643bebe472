"""Ranges that hold on other machines: each chapter run several times, and its ranges held against what was found.

A trained or sampled number differs between processors, numbers of threads, seeds and versions of the libraries. A range
that was set by looking at one run fails on the next machine. ``measure_ranges`` runs a chapter with other seeds, on one
and on two threads, and keeps every checked value in ``data/results/ranges/NN.jsonl``; ``range_problems`` holds the
ranges of the stored notebooks against them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import math
import re
import statistics
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.files import make_folder, write_text
from aigc_helpers.notebook import MEASURE_VARIABLE
from aigc_helpers.paths import in_checkout
from aigc_helpers.publishing.builder import (
    WITHOUT_NETWORK_AND_GPU,
    assemble,
    kernel_environment,
    notebook_file,
    read_notebook,
    refuse_without_loopback,
)
from aigc_helpers.publishing.runner import (
    THREADS_VARIABLE,
    Execution,
    division_of_labour,
    execute_watched,
    side_by_side,
)
from aigc_helpers.publishing.source import Chapter, find_chapters, read_chapter

if TYPE_CHECKING:
    from nbformat import NotebookNode

STORED = "data/results/ranges"
RUNS = 6  # with each a seed of its own, and one or two threads in turn
ENOUGH = 3  # runs without which nobody can say how far a value moves
MARGIN = 3.0  # standard deviations between the mean of the runs and either end of a range
PATIENCE = 3600  # seconds for one cell: it is often a busy machine that measures overnight
SEED_STEP = 1000  # so that no run's seeds are those of another cell in another run
# A share cannot leave [0, 1] nor a score [0, 100]: at these ends no margin is needed.
NATURAL_ENDS = (0.0, 1.0, 100.0)

_SHOWN = re.compile(r"^✓ (?P<label>.*): (?P<value>\S+) \(expected (?P<low>-?[\d.e+-]+?)–(?P<high>-?[\d.e+-]+)\)$")


@dataclass(frozen=True)
class Plan:
    """One run to be made: the seeds raised by ``seeds``, on ``threads`` threads; ``trained`` is False for the run whose
    optimizers change nothing.
    """

    seeds: int
    threads: int
    trained: bool = True


@dataclass(frozen=True)
class Run:
    """One stored run.

    Attributes:
        code: ``fingerprint`` of the chapter that ran.
        python, torch: the versions that it ran with.
        plan: seeds, threads, and whether anything was trained.
        trains: whether the chapter trains at all.
        values: (label, value) of each range check, in their order.
        unequal: labels of the exact checks that failed.
        errors: what stopped a run with training, a line each; such a run is not stored.
        seconds: how long it took.
    """

    code: str
    python: str
    torch: str
    plan: Plan
    trains: bool
    values: tuple[tuple[str, float], ...]
    unequal: tuple[str, ...]
    errors: tuple[str, ...]
    seconds: float

    @property
    def same_as(self) -> tuple[str, str, Plan]:
        """What a newer run of the same kind replaces."""
        return self.python, self.torch, self.plan


def measure_ranges(
    names: Iterable[str] | None = None, runs: int = RUNS, folder: Path | None = None, stored: Path | None = None
) -> Iterator[tuple[str, Run]]:
    """Run chapters as often as it takes until ``runs`` runs with these libraries are stored; yield each new run.

    What is stored already is not run again, so an interrupted call goes on where it stopped. A chapter that trains
    gets one more run that trains nothing.

    Args:
        names: numbers or names of chapters; all without.
        runs: runs for each chapter, not counting the one without training.
        folder: the one that holds ``source/``.
        stored: where the runs are kept; ``data/results/ranges`` without.

    Raises:
        UnknownNameError: one of the names is no chapter; nothing was run.
        ReaderError: the runs cannot be written; nothing was run.

    Example:
        >>> for chapter, run in measure_ranges(["chapter five"], runs=6):
        ...     print(chapter, run.plan.seeds, len(run.values))
        Traceback (most recent call last):
        ...
        aigc_helpers.errors.UnknownNameError: there is no chapter 'chapter five'. Valid: ...
    """
    folder, stored = folder or in_checkout("chapters"), stored or in_checkout(STORED)
    chapters = [read_chapter(path) for path in find_chapters(names, folder)]
    plans = [Plan(SEED_STEP * number, 1 + number % 2) for number in range(runs)]
    # All chapters with training first, then those of them that train once more without.
    for chosen in (plans, [Plan(0, 1, trained=False)]):
        tasks = []
        for chapter in chapters:
            current = current_runs(chapter, stored)
            known, trains = {run.same_as for run in current}, any(run.trains for run in current)
            tasks += [(chapter, plan) for plan in chosen if _identity(plan) not in known and (plan.trained or trains)]
        yield from _run_and_store(tasks, folder, stored)


def _identity(plan: Plan) -> tuple[str, str, Plan]:
    return f"{sys.version_info[0]}.{sys.version_info[1]}", importlib.metadata.version("torch"), plan


def _run_and_store(tasks: Sequence[tuple[Chapter, Plan]], folder: Path, stored: Path) -> Iterator[tuple[str, Run]]:
    if not tasks:
        return
    refuse_without_loopback()
    make_folder(stored)  # Before a chapter has run for minutes.

    def work(task: tuple[Chapter, Plan], progress: Callable[[], None], stop: threading.Event) -> tuple[Chapter, Run]:
        return task[0], _run(*task, folder, progress, stop)

    for threads in sorted({plan.threads for _, plan in tasks}):
        alike = [task for task in tasks if task[1].threads == threads]
        cells = sum(len(chapter.code_cells) + 1 for chapter, _ in alike)  # one more: it sets seeds and counts steps
        # Two kernels of two threads each on two cores wait for each other: that takes ten times as long.
        at_once = max(1, division_of_labour(len(alike))[0] // threads)
        for chapter, run in side_by_side(work, alike, at_once, cells):
            if not run.errors:
                others = [other for other in current_runs(chapter, stored) if other.same_as != run.same_as]
                _store(chapter, [*others, run], stored)
            yield chapter.name, run


def _run(chapter: Chapter, plan: Plan, folder: Path, progress: Callable[[], None], stop: threading.Event) -> Run:
    from nbformat import v4

    with tempfile.TemporaryDirectory() as temporary:
        trained = Path(temporary) / "trained"
        lines = ["from aigc_helpers.publishing import measuring", f"measuring.count_optimizer_steps({str(trained)!r})"]
        lines += [f"measuring.shift_seeds({plan.seeds})"] if plan.seeds else []
        lines += [] if plan.trained else ["measuring.train_nothing()"]
        notebook = assemble(chapter, "en")
        notebook["cells"].insert(_after_setup(notebook), v4.new_code_cell("\n".join(lines)))
        for cell in notebook["cells"]:
            if "expect(" in cell["source"]:  # a check that is shown failing does not raise here
                cell["metadata"].pop("tags", None)
        if not plan.trained:
            for cell in notebook["cells"]:  # What cannot go on without a trained model is left out.
                cell["metadata"]["tags"] = [*cell["metadata"].get("tags", ()), "raises-exception"]
        environment = kernel_environment(
            **WITHOUT_NETWORK_AND_GPU, **{THREADS_VARIABLE: str(plan.threads), MEASURE_VARIABLE: "1"}
        )
        execution = execute_watched(notebook, folder, environment, progress, stop, PATIENCE)
        trains = trained.exists()
    return _as_run(chapter, plan, execution, trains)


def _after_setup(notebook: NotebookNode) -> int:
    for number, cell in enumerate(notebook["cells"]):
        if "setup" in cell["metadata"].get("tags", ()):
            return number + 1
    return 0


def _as_run(chapter: Chapter, plan: Plan, execution: Execution, trains: bool) -> Run:
    python, torch, _ = _identity(plan)
    errors = [execution.error] if execution.error and plan.trained else []
    ranged = [check for check in execution.checks if "value" in check]
    return Run(
        code=fingerprint(chapter),
        python=python,
        torch=torch,
        plan=plan,
        trains=trains,
        values=tuple((check["label"], _significant(check["value"])) for check in ranged),
        unequal=tuple(check["label"] for check in execution.checks if "value" not in check and not check["passed"]),
        errors=tuple(errors),
        seconds=round(execution.seconds, 1),
    )


def _significant(value: float) -> float:
    return float(f"{value:.6g}")


def fingerprint(chapter: Chapter) -> str:
    """Return a hash of what a chapter computes where its ranges are measured, on the embedded profile and the CPU: its
    code without comments, prose, print, the ends of its ranges, and what only a GPU or the full profile is for.

    Another range, another line of print or another address of a helper needs no new run; another cell does.
    """
    digest = hashlib.sha256()
    for cell in chapter.code_cells:
        if not {"setup", "panel", "exercise"} & set(cell.tags):
            computed = _WithoutShow().visit(_EmbeddedOnly().visit(_parsed(cell.source)))
            digest.update("".join(map(_dump, computed.body)).encode())
    return digest.hexdigest()[:16]


def _dump(value: Any) -> str:  # noqa: ANN401 - what a field of a syntax tree holds: a node, a list or a constant.
    """Return what ``ast.dump`` does on Python 3.11, whichever runs.

    3.12 has a field more, and an empty text behind a width such as ``{number:{width}}``; 3.13 leaves out empty lists.
    """
    if isinstance(value, list):
        return f"[{', '.join(map(_dump, value))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    if isinstance(value, ast.JoinedStr):
        value = ast.JoinedStr([part for part in value.values if getattr(part, "value", None) != ""])
    fields = [
        f"{name}={_dump(each)}"
        for name, each in ast.iter_fields(value)
        # A field that may be left out and is; the value of the constant None is none of these.
        if (each is not None or getattr(type(value), name, ...) is not None) and (name != "type_params" or each)
    ]
    return f"{type(value).__name__}({', '.join(fields)})"


class _EmbeddedOnly(ast.NodeTransformer):
    """Takes out what only a GPU or the full profile is for.

    A chapter's ``full_profile`` is False wherever it decides, and ``….to(current_profile().device)`` moves nothing.
    """

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        moves = not node.keywords and [ast.unparse(each) for each in node.args] == ["current_profile().device"]
        return node.func.value if moves and isinstance(node.func, ast.Attribute) and node.func.attr == "to" else node

    def visit_If(self, node: ast.If) -> Any:  # noqa: ANN401 - statements take a statement's place
        self.generic_visit(node)
        known = _known(node.test)
        return node if known is None else node.body if known else node.orelse

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        known = _known(node.test)
        return node if known is None else node.body if known else node.orelse

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        changes_nothing = isinstance(node.op, ast.And)  # True beside "and", False beside "or"
        kept = [value for value in node.values if _known(value) is not changes_nothing]
        return ast.BoolOp(node.op, kept) if len(kept) > 1 else (kept or node.values)[0]


def _known(test: ast.expr) -> bool | None:
    """Return what a test of the profile is on the embedded one; None where it depends on anything else."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        operand = _known(test.operand)
        return None if operand is None else not operand
    if isinstance(test, ast.BoolOp):
        decides = isinstance(test.op, ast.Or)
        return decides if decides in map(_known, test.values) else None
    return False if isinstance(test, ast.Name) and test.id == "full_profile" else None


class _WithoutShow(ast.NodeTransformer):
    """Takes out what computes nothing: statements that call ``print``, the ends of the ranges of ``expect``, the
    addresses of helpers, and where ``fit`` keeps its checkpoints.
    """

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if (node.module or "").startswith("aigc_helpers") else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        prints = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", None) == "print"
        return None if prints else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "expect":
            node.args[1:3] = [ast.Constant(None)] * 2
        if isinstance(node.func, ast.Name) and node.func.id == "fit":
            node.keywords = [each for each in node.keywords if each.arg != "folder"]
        return node


def _parsed(source: str) -> ast.Module:
    # A line of the notebook's own (%env, !pip) is no Python; it counts as text.
    lines = [f"# {line}" if line.lstrip()[:1] in ("%", "!") else line for line in source.splitlines()]
    return ast.parse("\n".join(lines))


def current_runs(chapter: Chapter, stored: Path | None = None) -> list[Run]:
    """Return the stored runs of the chapter as it is now.

    Raises:
        ReaderError: one of the lines is damaged; the message says which.
    """
    path = (stored or in_checkout(STORED)) / f"{chapter.number}.jsonl"
    if not path.is_file():
        return []
    runs, code = [], fingerprint(chapter)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            runs.append(_read(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ReaderError(
                f"{path}, line {number} is no stored run ({first_line(error)}). Delete that line, then run: "
                f"aigc ranges {chapter.number}"
            ) from error
    return [run for run in runs if run.code == code]


def _store(chapter: Chapter, runs: Sequence[Run], stored: Path) -> None:
    ordered = sorted(runs, key=lambda run: (not run.plan.trained, run.python, run.torch, run.plan.seeds))
    lines = [json.dumps(_as_json(run), ensure_ascii=False) + "\n" for run in ordered]
    write_text(stored / f"{chapter.number}.jsonl", "".join(lines))


def _as_json(run: Run) -> dict[str, Any]:
    fields = {name: value for name, value in vars(run).items() if name != "plan"}
    return {**vars(run.plan), **fields}


def _read(fields: dict[str, Any]) -> Run:
    plan = Plan(fields.pop("seeds"), fields.pop("threads"), fields.pop("trained"))
    values = tuple((label, value) for label, value in fields.pop("values"))
    return Run(plan=plan, values=values, **{name: _frozen(value) for name, value in fields.items()})


def _frozen(value: Any) -> Any:  # noqa: ANN401 (JSON)
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Range:
    """A range as a stored notebook shows it; ``label`` is unique (``"exact (2)"`` is the second of that name)."""

    label: str
    low: float
    high: float


def shown_ranges(notebook: NotebookNode) -> list[Range]:
    """Return every range that stands in the outputs of a notebook, in their order."""
    found = shown_values(notebook)
    labels = unique_labels([label for label, *_ in found])
    return [Range(label, low, high) for label, (_, _, low, high) in zip(labels, found, strict=True)]


def shown_values(notebook: NotebookNode) -> list[tuple[str, float, float, float]]:
    """Return label, value, low and high of each check of a range in the outputs of a notebook, in their order."""
    found = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            for line in output.get("text", "").splitlines():
                match = _SHOWN.match(line)
                if match:
                    value, low, high = (float(match[name].replace(",", "")) for name in ("value", "low", "high"))
                    found.append((match["label"], value, low, high))
    return found


def unique_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels with a count behind each that has stood before."""
    seen: Counter[str] = Counter()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return unique


def range_problems(
    names: Iterable[str] | None = None,
    folder: Path | None = None,
    stored: Path | None = None,
) -> list[str]:
    """Return what is wrong with the ranges of chapters, one sentence each, with the command that mends it.

    Args:
        names: numbers or names of chapters; all without.
        folder: the one that holds ``source/`` and the notebooks.
        stored: where the runs are kept, and ``not_about_training.json``: by a chapter's number the labels of checks
            that show something else than what training does; there the run without training passes as well.

    Raises:
        UnknownNameError: one of the names is no chapter.

    Example:
        >>> range_problems(["chapter five"])
        Traceback (most recent call last):
        ...
        aigc_helpers.errors.UnknownNameError: there is no chapter 'chapter five'. Valid: ...
    """
    folder, stored, found = folder or in_checkout("chapters"), stored or in_checkout(STORED), []
    listed = stored / "not_about_training.json"
    try:
        not_about_training = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else {}
    except ValueError as error:
        raise ReaderError(
            f"{listed} is damaged ({first_line(error)}). Restore it: git checkout -- {STORED}/{listed.name}"
        ) from error
    for path in find_chapters(names, folder):
        chapter = read_chapter(path)
        notebook = read_notebook(notebook_file(folder, chapter.name, "en"))
        try:
            ranges = shown_ranges(notebook) if notebook else []
        except (AttributeError, KeyError, TypeError):  # JSON, but no notebook's
            ranges = []
        asked = sum(_asks_for_a_range(cell.source) for cell in chapter.code_cells)
        if len(ranges) < asked:
            found.append(
                f"{chapter.name}: its notebook is missing, damaged or older than its source: it shows {len(ranges)} "
                f"ranges, and {asked} cells ask for one. Run: aigc build {chapter.number}"
            )
        elif ranges:
            exempt = not_about_training.get(chapter.number, ())
            found += [f"{chapter.name}: {each}" for each in _problems_of(chapter, ranges, stored, exempt)]
    return found


def _asks_for_a_range(source: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "expect"
        for node in ast.walk(_parsed(source))
    )


def _problems_of(
    chapter: Chapter, ranges: Sequence[Range], stored: Path, not_about_training: Sequence[str]
) -> list[str]:
    again = f"Run: aigc ranges {chapter.number}"
    runs = current_runs(chapter, stored)
    trained = [run for run in runs if run.plan.trained]
    if len(trained) < ENOUGH:
        path = stored / f"{chapter.number}.jsonl"
        is_newer = not runs and path.is_file() and path.read_text(encoding="utf-8").strip()
        reason = "its code is newer than the stored ones" if is_newer else f"{ENOUGH} are needed"
        return [f"{len(trained)} runs are stored for its ranges ({reason}). {again}"]
    untrained = [run for run in runs if not run.plan.trained]
    if any(run.trains for run in trained) and not untrained:
        return [f"the run without training is missing. {again}"]
    found = [
        f"{label!r} differs between machines: it failed with threads and seeds {run.plan.threads}, {run.plan.seeds}"
        for run in trained
        for label in run.unequal
        if run.plan.seeds == 0  # other seeds split some data anew; what is exact about a split may differ then
    ]
    for each in ranges:
        values = [value for run in trained for value in _values_of(run, each.label)]
        if len(values) < len(trained):
            found.append(f"{each.label!r} is missing in {len(trained) - len(values)} stored runs. {again}")
            continue
        found += _problems_of_range(each, values)
        without = [value for run in untrained for value in _values_of(run, each.label)]
        if each.label not in not_about_training:
            found += _problems_without_training(each, trained, without)
    return found


def _values_of(run: Run, label: str) -> list[float]:
    labels = unique_labels([label for label, _ in run.values])
    return [value for (_, value), unique in zip(run.values, labels, strict=True) if unique == label]


def _problems_of_range(each: Range, values: Sequence[float]) -> list[str]:
    # A count of ten cannot leave [0, 10]: where all is whole and the end was reached, it is the last there is.
    whole = all(float(number).is_integer() for number in (*values, each.low, each.high))
    low, high = spread(values, as_ratio=each.low >= 0 and not whole)
    if each.low in NATURAL_ENDS or (whole and min(values) == each.low):
        low = max(low, min(each.low, *values))
    if each.high in NATURAL_ENDS or (whole and max(values) == each.high):
        high = min(high, max(each.high, *values))
    if each.low <= low and high <= each.high:
        return []
    return [
        f"{each.label!r}: the range {each.low:g}–{each.high:g} does not hold {low:.4g}–{high:.4g} (from "
        f"{min(values):.4g} to {max(values):.4g} in {len(values)} runs, and {MARGIN:g} standard deviations about their "
        "mean). Widen it in the source, or train so that the value moves less."
    ]


def spread(values: Sequence[float], as_ratio: bool) -> tuple[float, float]:
    """Return the ends of mean plus and minus ``MARGIN`` standard deviations.

    Args:
        values: of two runs or more.
        as_ratio: they cannot be negative; where they vary by as much as themselves, mean and deviation of their
            logarithms count, for else the lower end would be negative.
    """
    mean, margin = statistics.fmean(values), MARGIN * statistics.stdev(values)
    if as_ratio and min(values) > 0 and mean <= margin:
        logarithms = [math.log(value) for value in values]
        middle, factor = math.exp(statistics.fmean(logarithms)), math.exp(MARGIN * statistics.stdev(logarithms))
        return middle / factor, middle * factor
    return mean - margin, mean + margin


def _problems_without_training(each: Range, trained: Sequence[Run], without: Sequence[float]) -> list[str]:
    """A check that training decides must not pass without: where the same seeds give another value, training does."""
    same_seeds = [value for run in trained if run.plan == Plan(0, 1) for value in _values_of(run, each.label)]
    a_little = (each.high - each.low) / 100  # more than the last digits, which another library set may change
    moved = [value for value in without if all(abs(value - other) > a_little for other in same_seeds)]
    if moved and each.low <= moved[0] <= each.high:
        return [
            f"{each.label!r}: the range {each.low:g}–{each.high:g} also holds {moved[0]:.4g}, the value without any "
            "training: it proves nothing. Narrow it, or list the check in not_about_training.json."
        ]
    return []

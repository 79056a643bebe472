"""Exercises checked in the notebook: staged hints in two languages, typical mistakes recognised, nothing raised.

The exercises of chapter 05 live in ``chapters/exercises/05.py``::

    from aigc_helpers.notebook import Exercise, Mistake, Text, gives

    EXERCISES = [
        Exercise(
            "05-1",
            Text("How many parameters has a LoRA of rank r?", "秩为 r 的 LoRA 有多少参数？"),
            tests=[gives((384, 384, 8), 6144), gives((384, 1536, 4), 7680)],
            mistakes=[
                Mistake(
                    "one matrix only",
                    gives((384, 384, 8), 3072),
                    Text("That is A alone: B has parameters too.", "这只是 A：B 也有参数。"),
                ),
            ],
            hints=[
                Text("A is r × inputs, B is outputs × r.", "A 的形状是 r × 输入，B 是 输出 × r。"),
                Text("Add the sizes of A and B.", "把 A 与 B 的元素个数相加。"),
            ],
        ),
    ]

    # For the tests: each wrong answer is either the source that a reader would write in the solution's place,
    # or the answer itself; beside it the name of the mistake that it must be recognised as.
    WRONG_ANSWERS = {"05-1": [("return rank * inputs", "one matrix only")]}

Of the chapter's other cells an exercise uses what they import, and nothing that they compute: so it is checked alone,
and a reader may begin with it. (``tests/chapters/test_every_exercise.py`` gives it no more.)

A test is called with the reader's answer. It passes by returning None or something true, and fails by returning
something false, or a ``Text`` that says what is wrong with this answer. ``gives`` and ``is_value`` make such tests.
"""

from __future__ import annotations

import copy
import dis
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.notebook.content import chapters_with, content_module

Test = Callable[[Any], object]

_failures: dict[str, int] = {}  # failed attempts in this kernel, per exercise
_listener: list[tuple[str, object]] | None = None  # set while answer_from_source runs a cell


@dataclass(frozen=True)
class Text:
    """One sentence or two, in both languages."""

    en: str
    zh: str


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer.

    Attributes:
        name: unique within the exercise; tests refer to it, readers never see it.
        made_by: called with an answer that failed a test; true if this is the mistake. A crash counts as false.
        hint: what to tell the reader who made it.
    """

    name: str
    made_by: Test
    hint: Text


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        identifier: chapter and number, ``"05-1"``.
        question: one line that says what is asked.
        tests: called with the answer one after the other; the first that fails decides.
        hints: general hints from a nudge to nearly the solution; each further attempt shows one more.
        mistakes: tried in order when a test failed; the first that matches gives its hint.
        returns_nothing: the answer is a function that is meant to return None (it changes its argument), so a None
            does not count as "not solved yet".
    """

    identifier: str
    question: Text
    tests: Sequence[Test]
    hints: Sequence[Text]
    mistakes: Sequence[Mistake] = ()
    returns_nothing: bool = False


@dataclass(frozen=True)
class Result:
    """What an answer is worth.

    Attributes:
        status: ``"solved"``, ``"unsolved"`` (nothing written yet), ``"wrong"`` or ``"error"`` (the answer crashed).
        hint_en: a hint for exactly this answer, or None.
        hint_zh: the same in Chinese.
        mistake: the name of the typical mistake recognised, or None.
        error: type and message of the exception that the answer raised, or None.
    """

    status: str
    hint_en: str | None = None
    hint_zh: str | None = None
    mistake: str | None = None
    error: str | None = None


class _NotSolvedYetError(Exception):
    """The reader's function returned what a stub returns."""


def gives(arguments: Sequence[object], expected: object, tolerance: float = 0.0) -> Test:
    """Make a test: the answer is a function, and called with ``arguments`` it gives ``expected``.

    Args:
        arguments: positional arguments; the function gets a copy of its own.
        expected: a number, or a list, array or tensor of numbers, or any object that can be compared.
        tolerance: the largest absolute difference of numbers that passes.

    Example:
        >>> test = gives((384, 384, 8), 6144)
        >>> test(lambda inputs, outputs, rank: rank * (inputs + outputs))
        True
        >>> test(lambda inputs, outputs, rank: rank * inputs)
        False
    """
    return lambda answer: _agrees(answer(*copy.deepcopy(tuple(arguments))), expected, tolerance)


def is_value(expected: object, tolerance: float = 0.0) -> Test:
    """Make a test: the answer itself is ``expected``; numbers may differ by ``tolerance``.

    Example:
        >>> test = is_value(0.333, tolerance=0.001)
        >>> test(1 / 3), test(0.5), test("a third")
        (True, False, False)
    """
    return lambda answer: _agrees(answer, expected, tolerance)


def _agrees(value: object, expected: object, tolerance: float) -> bool:
    right = _as_numbers(expected)
    if right is None:
        return bool(value == expected)
    left = _as_numbers(value)
    if left is None or left.shape != right.shape:
        return False
    return bool((abs(left - right) <= tolerance).all())


def _as_numbers(value: object) -> Any:  # noqa: ANN401 (numpy is imported late)
    """Return a number, list, array or tensor as an array; None for what holds anything but numbers."""
    import numpy

    if hasattr(value, "detach"):  # numpy knows neither gradients nor bfloat16
        value = value.detach().tolist()
    try:
        array = numpy.asarray(value)
    except ValueError:  # rows of different length
        return None
    return array if array.dtype.kind in "iufc" else None


def exercises_of_chapter(number: str) -> list[Exercise]:
    """Return the exercises of chapter ``"05"``, or an empty list if the chapter has none."""
    module = exercise_module(number)
    return list(module.EXERCISES) if module else []


def exercise_module(number: str) -> types.ModuleType | None:
    """Import and return ``chapters/exercises/NN.py``, or None where there is no such file."""
    return content_module("exercises", number)


def find_exercise(identifier: str) -> Exercise:
    """Return the exercise called ``"05-1"``.

    Raises:
        UnknownNameError: there is none; the message lists those of the same chapter, or all, the likeliest first.
    """
    exercises = exercises_of_chapter(identifier.split("-")[0])
    for exercise in exercises:
        if exercise.identifier == identifier:
            return exercise
    everywhere = exercises or [each for number in chapters_with("exercises") for each in exercises_of_chapter(number)]
    raise UnknownNameError("exercise", identifier, [each.identifier for each in everywhere])


def mark(identifier: str, answer: object) -> Result:
    """Judge an answer without printing anything; an answer that crashes gives status ``"error"``, not an exception.

    Raises:
        UnknownNameError: there is no such exercise.
    """
    exercise = find_exercise(identifier)
    if _is_stub(answer):
        return Result("unsolved")
    watched = answer if exercise.returns_nothing else _watched(answer)
    try:
        outcome = _first_failure(exercise.tests, watched)
    except _NotSolvedYetError:
        return Result(
            "unsolved",
            "Your function returns nothing yet. If you have written it, is a `return` missing?",
            "你的函数还没有返回任何值。如果已经写完，是不是漏了 `return`？",
        )
    except (Exception, SystemExit) as error:
        described = f"{type(error).__name__}: {error}".rstrip(": ")
        mistake = _recognised(exercise.mistakes, answer)
        hint = mistake.hint if mistake else _crash_hint(answer)
        return Result("error", hint.en, hint.zh, mistake.name if mistake else None, described)
    if outcome is None:
        return Result("solved")
    mistake = _recognised(exercise.mistakes, answer)
    if mistake:
        return Result("wrong", mistake.hint.en, mistake.hint.zh, mistake.name)
    if isinstance(outcome, Text):
        return Result("wrong", outcome.en, outcome.zh)
    return Result("wrong")


def check_exercise(identifier: str, answer: object) -> None:
    """Print whether the answer is right and, if not, a hint: a line in English, then one in Chinese.

    Each further try shows one more general hint. A wrong or crashing answer never stops the notebook.

    Args:
        identifier: of the exercise, chapter and number.
        answer: whatever the exercise asks for: a value, a function, a class.

    Raises:
        UnknownNameError: there is no such exercise.

    Example:
        >>> check_exercise("04-1", ...)
        ○ exercise 04-1 not solved yet / 练习 04-1 尚未完成
          Write your answer in place of `...`; run the cell again as it is to get a hint.
          请用你的答案替换 `...`；想要提示，就原样再运行一次。
    """
    if _listener is not None:
        _listener.append((identifier, answer))
        return
    exercise = find_exercise(identifier)
    result = mark(identifier, answer)
    if result.status == "solved":
        print(f"✓ exercise {identifier} solved / 练习 {identifier} 完成")
        return
    # The first run finds the stub that the notebook ships: that is no failed attempt.
    untouched = result.status == "unsolved" and identifier not in _failures
    failures = _failures[identifier] = _failures.get(identifier, 0) + (0 if untouched else 1)
    print(f"○ exercise {identifier} not solved yet / 练习 {identifier} 尚未完成")
    if result.error:
        print(f"  your code stopped with / 你的代码出错: {result.error}")
    if result.hint_en:
        print(f"  {result.hint_en}\n  {result.hint_zh}")
    # A hint for exactly this answer comes before a further general one.
    answered = result.status != "unsolved" and result.hint_en is not None
    for number, hint in enumerate(exercise.hints[: failures - 1 if answered else failures], 1):
        print(f"  hint {number} of {len(exercise.hints)}: {hint.en}")
        print(f"  提示 {number}/{len(exercise.hints)}：{hint.zh}")
    if untouched:
        print("  Write your answer in place of `...`; run the cell again as it is to get a hint.")
        print("  请用你的答案替换 `...`；想要提示，就原样再运行一次。")


def answer_from_source(source: str, names: Mapping[str, object] | None = None) -> tuple[str, object]:
    """Run an exercise cell and return the identifier and the answer that it hands to ``check_exercise``.

    For the tests of the book: nothing is marked or printed by ``check_exercise`` meanwhile.

    Args:
        source: the cell's code.
        names: what the cell finds defined.

    Raises:
        ValueError: the cell does not call ``check_exercise`` exactly once.
        Exception: whatever the cell itself raises.
    """
    global _listener
    heard: list[tuple[str, object]] = []
    _listener = heard
    try:
        exec(compile(source, "<exercise>", "exec"), {**(names or {}), "check_exercise": check_exercise})
    finally:
        _listener = None
    if len(heard) != 1:
        raise ValueError(f"an exercise cell calls check_exercise once, this one {len(heard)} times")
    return heard[0]


def _first_failure(tests: Sequence[Test], answer: object) -> object | None:
    """Return what the first failing test returned (a Text or something false, never None); None if all pass."""
    for test in tests:
        outcome = test(answer)
        if outcome is None:
            continue
        if isinstance(outcome, Text):
            return outcome
        if not outcome:
            return False
    return None


def _recognised(mistakes: Sequence[Mistake], answer: object) -> Mistake | None:
    for mistake in mistakes:
        try:
            if mistake.made_by(answer):
                return mistake
        except (Exception, SystemExit):  # it crashes on this answer, so the answer is another one
            continue
    return None


def _crash_hint(answer: object) -> Text:
    if callable(answer):
        return Text(
            "Call your function in a cell of its own with simple arguments: the traceback names the line.",
            "在单独的单元格里用简单的参数调用你的函数，错误信息会指出是哪一行。",
        )
    return Text(
        f"The check expected another kind of answer than {type(answer).__name__}.",
        f"检查程序期待的答案类型与 {type(answer).__name__} 不同。",
    )


def _is_stub(answer: object) -> bool:
    """Tell an answer on which nothing has been written yet: None, ``...``, or a function whose body is only that."""
    if answer is None or answer is Ellipsis:
        return True
    if isinstance(answer, types.FunctionType):
        return _does_nothing(answer)
    if inspect.isclass(answer):
        return any(_does_nothing(each) for each in vars(answer).values() if isinstance(each, types.FunctionType))
    if isinstance(answer, Mapping):
        answer = tuple(answer.values())
    return isinstance(answer, (tuple, list)) and any(each is None or each is Ellipsis for each in answer)


def _does_nothing(function: types.FunctionType) -> bool:
    """Tell a function whose body, apart from a docstring, is ``...``, ``pass`` or ``return None``."""
    instructions = list(dis.get_instructions(function))
    harmless = {"RESUME", "NOP", "CACHE", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    if not {instruction.opname for instruction in instructions} <= harmless:
        return False
    loaded = [each.argval for each in instructions if each.opname in ("LOAD_CONST", "RETURN_CONST")]
    return loaded[-1] in (None, Ellipsis)


def _watched(answer: object) -> object:
    """Wrap a plain function so that a returned None or ``...`` says that it is not written yet."""
    if not isinstance(answer, types.FunctionType):
        return answer

    @functools.wraps(answer)
    def watched(*arguments: object, **named: object) -> object:
        returned = answer(*arguments, **named)
        if returned is None or returned is Ellipsis:
            raise _NotSolvedYetError
        return returned

    return watched
